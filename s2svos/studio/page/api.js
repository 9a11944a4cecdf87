// Requests to the server; masks go as ids, a byte each, compressed as zlib does.

async function checked(answer) {
  const response = await answer;
  if (response.ok) return response;
  let words = response.statusText;
  try { words = (await response.json()).error || words; } catch { /* no JSON */ }
  throw new Error(words);
}

async function through(stream, bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer();
}

const pack = (ids) => through(new CompressionStream("deflate"), ids);
const unpack = async (bytes) => new Uint8Array(await through(new DecompressionStream("deflate"), bytes));
const send = (path, method, body) => checked(fetch(path, { method, body }));
const sendJson = async (path, method, facts) => (await send(path, method, JSON.stringify(facts))).json();

export const ready = async () => {}; // the video was chosen where the server was started
export const project = async () => (await checked(fetch("/api/project"))).json();
export const frame = async (index, height) =>
  createImageBitmap(await (await checked(fetch(`/api/frames/${index}?height=${height}`))).blob());
export async function mask(index) {
  const response = await checked(fetch(`/api/masks/${index}`));
  return response.status === 204 ? null : unpack(await response.arrayBuffer());
}
export const paint = async (index, ids) =>
  (await send(`/api/masks/${index}`, "PUT", await pack(ids))).json();
export const snap = async (index, ids) =>
  unpack(await (await send(`/api/snap/${index}`, "POST", await pack(ids))).arrayBuffer());
export const name = (one, text) => sendJson(`/api/objects/${one}`, "PUT", { name: text });
export const remove = (one) => sendJson(`/api/objects/${one}`, "DELETE", {});
export const follow = (facts) => sendJson("/api/follow", "POST", facts);
export const stop = () => sendJson("/api/stop", "POST", {});
export async function download(format) {
  const response = await checked(fetch(`/api/export/${format}`)), link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = format;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
export function progress(listener) {
  const events = new EventSource("/api/progress");
  events.onmessage = (event) => listener(JSON.parse(event.data));
}
