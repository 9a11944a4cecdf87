// What the page asks for, answered in the browser: nothing leaves this machine.

const worker = new Worker(new URL("../web/worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let number = 0;
let listener = () => {};
const byId = (id) => document.getElementById(id);

worker.onmessage = ({ data: { id, value, error, progress, words } }) => {
  if (progress) return listener(progress);
  if (words) { byId("opening").textContent = words; return; }
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(value); else reject(new Error(error));
};
worker.onerror = (event) => { byId("opening").textContent = `The page's worker failed: ${event.message}`; };

function call(name, ...given) {
  return new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    worker.postMessage({ id: number, name, given });
  });
}

// Let the user choose a video; returns once it is open.
export function ready() {
  byId("chooser").showModal();
  byId("chooser").addEventListener("cancel", (event) => event.preventDefault());
  addEventListener("beforeunload", (event) => event.preventDefault()); // what was painted goes with the page
  return new Promise((resolve) => {
    const open = async (file) => {
      byId("opening").textContent = `Opening ${file.name}`;
      try {
        await call("open", file);
        byId("chooser").close();
        resolve();
      } catch (error) { byId("opening").textContent = error.message; }
    };
    byId("file").addEventListener("change", () => { if (byId("file").files.length) open(byId("file").files[0]); });
    byId("camera").addEventListener("click", () => record(open));
  });
}

// Record the camera until the button is pressed again.
async function record(open) {
  const button = byId("camera");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true });
    const recorder = new MediaRecorder(stream), parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      button.textContent = "Record the camera";
      open(new File(parts, "camera.webm"));
    };
    recorder.start();
    byId("opening").textContent = "Recording";
    button.textContent = "Stop recording";
    button.addEventListener("click", (event) => { event.stopImmediatePropagation(); recorder.stop(); }, { once: true, capture: true });
  } catch (error) { byId("opening").textContent = `The camera cannot be used: ${error.message}`; }
}

export async function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await call("download"));
  link.download = "masks.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

export const project = () => call("facts");
export const frame = (index) => call("frame", index);
export const mask = (index) => call("mask", index);
export const paint = (index, ids) => call("paint", index, ids);
export const snap = (index, ids) => call("snap", index, ids);
export const name = (one, text) => call("name", one, text);
export const remove = (one) => call("remove", one);
export const follow = (facts) => call("follow", facts);
export const stop = () => call("stop");
export function progress(heard) { listener = heard; }
