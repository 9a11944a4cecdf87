// The project in a thread of its own, so that the page stays quick while the network works.

import { Network } from "./network.js";
import { Project } from "./project.js";
import { Video } from "./video.js";

let project = null;
const network = Network.load(new URL("../model/", import.meta.url), (words) => postMessage({ words }));

const calls = {
  async open(file) {
    const video = await Video.open(file);
    await project?.stop();
    project = new Project(await network, video, (progress) => postMessage({ progress }));
  },
};
const methods = ["facts", "frame", "mask", "paint", "snap", "name", "remove", "follow", "stop", "download"];
for (const name of methods) calls[name] = (...given) => project[name](...given);

onmessage = async ({ data: { id, name, given } }) => {
  try {
    const value = await calls[name](...given);
    postMessage({ id, value }, value instanceof ImageBitmap ? [value] : []);
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
