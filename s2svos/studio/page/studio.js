// The page: its state, its tools and keys.

import * as api from "./api.js";
import { Mask, joined } from "./mask.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";

const DOUBTFUL = 0.75; // certainty below which a mask is worth a look
const PREVIEW = 300; // milliseconds from one frame that is shown while following to the next
const byId = (id) => document.getElementById(id);
const view = new View(byId("stage"), byId("frame"), byId("overlay"));
const timeline = new Timeline(byId("timeline"), (index) => show(index));
const state = { index: 0, wanted: 0, count: 0, objects: [], given: [], followed: [], confidence: {}, object: 1, tool: "brush",
  playing: false, progress: { running: false } };
let mask = null;
let points = []; // of a polygon, lasso or box that is not closed yet
let shown = 0; // number of the latest call of show
let previewed = 0;
let saving = Promise.resolve();
const undone = [], done = []; // patches with their frame

// What is there

function take(facts) {
  Object.assign(state, facts);
  byId("video").textContent = `${state.video}, ${state.width}x${state.height}, ${state.count} frames`;
  byId("command").value = state.command;
  if (!byId("format").length) byId("format").append(...state.formats.map((one) => new Option(one)));
  for (const one of state.objects) view.setColour(one.id, one.colour);
  listObjects();
  redraw();
}

function redraw() {
  timeline.draw(state);
  byId("position").textContent = `frame ${state.index} of ${state.count - 1}`;
  byId("play").textContent = state.playing ? "Pause" : "Play";
  byId("stop").disabled = !state.progress.running;
  byId("undo").disabled = !done.length;
  byId("redo").disabled = !undone.length;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === state.tool);
  }
}

function listObjects() {
  const objects = state.objects.some((one) => one.id === state.object)
    ? state.objects : [...state.objects, { id: state.object, name: `object ${state.object}`, colour: "#ffffff" }];
  const rows = objects.map((one) => {
    const row = document.createElement("li"), swatch = document.createElement("span");
    const choose = document.createElement("button"), name = document.createElement("input");
    const away = document.createElement("button");
    swatch.className = "swatch";
    swatch.style.backgroundColor = one.colour;
    choose.textContent = one.id;
    choose.title = `Paint ${one.name}`;
    choose.setAttribute("aria-label", `Paint ${one.name}`);
    choose.setAttribute("aria-current", one.id === state.object);
    choose.addEventListener("click", () => chooseObject(one.id));
    name.value = one.name;
    name.setAttribute("aria-label", `Name of object ${one.id}`);
    name.addEventListener("change", () => tried(async () => take(await api.name(one.id, name.value))));
    away.textContent = "x";
    away.setAttribute("aria-label", `Take ${one.name} away`);
    away.addEventListener("click", () => tried(async () => { take(await api.remove(one.id)); await show(state.index); }));
    row.append(swatch, choose, name, away);
    return row;
  });
  byId("objects").replaceChildren(...rows);
}

function tell(words) { byId("status").textContent = words; }

async function tried(work) {
  try { await work(); } catch (error) { tell(error.message); }
}

async function show(index) {
  const wanted = Math.min(state.count - 1, Math.max(0, index)), call = ++shown;
  state.wanted = wanted; // from which the next key counts on, before this frame is there
  await tried(async () => {
    const height = Math.min(state.height, Math.ceil(view.stage.clientHeight * devicePixelRatio));
    const [bitmap, ids] = await Promise.all([api.frame(wanted, height), api.mask(wanted)]);
    if (call !== shown) return; // another frame was asked for meanwhile
    state.index = wanted;
    points = [];
    mask = new Mask(state.width, state.height, ids);
    view.picture(bitmap);
    view.objects(mask);
    redraw();
  });
}

// Painting

function chooseObject(id) {
  state.object = id;
  listObjects();
}

function keep(patch) {
  if (!patch) return;
  done.push({ index: state.index, patch });
  undone.length = 0;
  save();
}

function save() {
  const index = state.index, ids = mask.ids.slice();
  saving = saving.then(() => tried(async () => {
    await api.paint(index, ids);
    take(await api.project());
    document.body.dataset.saved = String(Number(document.body.dataset.saved || 0) + 1);
  }));
  return saving;
}

async function turn(from, to, side) {
  const entry = from.pop();
  if (!entry) return;
  if (entry.index !== state.index) await show(entry.index);
  mask.put(entry.patch, entry.patch[side]);
  view.objects(mask, entry.patch);
  to.push(entry);
  save();
  redraw();
}

const snap = () => tried(async () => {
  if (!mask.ids.some((id) => id)) return tell("Paint an object first.");
  tell("Snapping");
  const index = state.index, ids = await api.snap(index, mask.ids);
  if (index !== state.index) return;
  keep(mask.replace(ids));
  view.objects(mask);
  tell("Snapped to the object's edges.");
});

function closed() {
  if (points.length > 2) {
    const patch = mask.area(points, state.object);
    keep(patch);
    if (byId("autosnap").checked) snap();
  }
  points = [];
  view.objects(mask);
}

function corners(a, b) { return [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }]; }

const touches = new Map();
let patches = [];
let last = null;

view.stage.addEventListener("pointerdown", (event) => {
  view.stage.setPointerCapture(event.pointerId);
  view.stage.focus();
  touches.set(event.pointerId, event);
  if (touches.size > 1 || state.tool === "pan" || event.button === 1) { last = event; return; }
  const at = view.point(event), id = state.tool === "eraser" ? 0 : state.object;
  pause();
  if (state.tool === "fill") {
    if (at.x < 0 || at.y < 0 || at.x >= state.width || at.y >= state.height) return;
    const patch = mask.fill(at.x, at.y, id);
    if (patch) { keep(patch); view.objects(mask, patch); }
  } else if (state.tool === "polygon") {
    points.push(at);
    view.outline(mask, points);
  } else if (state.tool === "lasso" || state.tool === "box") {
    points = [at];
  } else {
    last = at;
    patches = [];
    stroke(at, id);
  }
});

function stroke(at, id) {
  const patch = mask.stroke(last.x, last.y, at.x, at.y, Number(byId("size").value) / 2, id);
  if (patch) { patches.push(patch); view.objects(mask, patch); }
  last = at;
}

view.stage.addEventListener("pointermove", (event) => {
  if (!touches.has(event.pointerId)) return;
  const before = touches.get(event.pointerId);
  touches.set(event.pointerId, event);
  if (touches.size > 1) {
    const [a, b] = [...touches.values()].map((one) => ({ x: one.clientX, y: one.clientY }));
    const other = [...touches.values()].find((one) => one.pointerId !== event.pointerId);
    const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
    const box = view.stage.getBoundingClientRect();
    view.zoom(Math.hypot(a.x - b.x, a.y - b.y) / Math.max(1, was), (a.x + b.x) / 2 - box.left, (a.y + b.y) / 2 - box.top);
    return;
  }
  if (state.tool === "pan" || event.buttons === 4) {
    view.move(event.clientX - before.clientX, event.clientY - before.clientY);
    return;
  }
  const at = view.point(event);
  if (state.tool === "lasso") { points.push(at); view.outline(mask, points); }
  else if (state.tool === "box") { points = corners(points[0], at); view.outline(mask, points); }
  else if (patches.length) stroke(at, state.tool === "eraser" ? 0 : state.object);
});

function lifted(event) {
  touches.delete(event.pointerId);
  if (state.tool === "lasso" || state.tool === "box") { if (points.length) closed(); }
  else if (patches.length) {
    keep(joined(mask, patches));
    patches = [];
    if (byId("autosnap").checked) snap();
  }
}
view.stage.addEventListener("pointerup", lifted);
view.stage.addEventListener("pointercancel", lifted);
view.stage.addEventListener("dblclick", () => { if (state.tool === "polygon") closed(); });
view.stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = view.stage.getBoundingClientRect();
  view.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
addEventListener("resize", () => { view.fit(); redraw(); });

// Moving through the frames

function pause() { state.playing = false; redraw(); }

async function play() {
  state.playing = !state.playing;
  redraw();
  while (state.playing && state.index < state.count - 1) {
    const due = performance.now() + 1000 / state.rate;
    await show(state.index + 1);
    await new Promise((wait) => setTimeout(wait, Math.max(0, due - performance.now())));
  }
  pause();
}

function nextDoubt() {
  const lost = Object.entries(state.confidence)
    .filter(([, sure]) => Object.values(sure).some((one) => one < DOUBTFUL))
    .map(([index]) => Number(index)).sort((a, b) => a - b);
  if (!lost.length) return tell("No frame is doubtful.");
  show(lost.find((index) => index > state.index) ?? lost[0]);
}

// Following

const order = (facts) => tried(async () => {
  await saving;
  pause();
  state.progress = await api.follow(facts);
  redraw();
});

api.progress((now) => {
  const was = state.progress;
  state.progress = now;
  if (now.frame >= 0) {
    state.confidence[now.frame] = now.confidence;
    if (!state.followed.includes(now.frame) && !state.given.includes(now.frame)) state.followed.push(now.frame);
  }
  if (now.running) {
    const left = now.rate ? Math.round((now.total - now.done) / now.rate) : 0;
    tell(`${now.done} of ${now.total} frames, ${now.rate.toFixed(1)} frames/s, ${left} s left`);
    if (now.frame >= 0 && performance.now() > previewed + PREVIEW) {
      previewed = performance.now();
      show(now.frame);
    }
  } else if (was.running) {
    tell(now.error || `${now.done} frames followed, ${now.rate.toFixed(1)} frames/s.`);
    tried(async () => { take(await api.project()); await show(now.frame >= 0 ? now.frame : state.index); });
  }
  redraw();
});

// Buttons and keys

const tool = (name) => () => { state.tool = name; points = []; if (mask) view.objects(mask); redraw(); };
const add = () => chooseObject(Math.max(0, ...state.objects.map((one) => one.id)) + 1);
const actions = [
  ["b", "Brush", tool("brush")], ["e", "Eraser", tool("eraser")], ["p", "Polygon: click, Enter or double click closes it", tool("polygon")],
  ["l", "Lasso", tool("lasso")], ["x", "Box", tool("box")], ["f", "Fill", tool("fill")], ["h", "Pan; two fingers or the wheel zoom", tool("pan")],
  ["s", "Snap the masks of this frame to the objects' edges", snap],
  ["z", "Undo", () => turn(done, undone, "before")], ["y", "Redo", () => turn(undone, done, "after")],
  ["n", "New object; 1 to 9 choose one", add],
  [" ", "Play and pause", play], ["ArrowLeft", "Frame before", () => show(state.wanted - 1)], ["ArrowRight", "Next frame", () => show(state.wanted + 1)],
  ["Home", "First frame", () => show(0)], ["End", "Last frame", () => show(state.count - 1)],
  ["Enter", "Close the polygon, or follow on from this frame", () => (points.length ? closed() : order({ start: state.index, last: state.count - 1 }))],
  ["Backspace", "Follow back from this frame", () => order({ start: state.index, last: 0 })],
  ["a", "Follow all frames, each from the nearest painted one", () => order({})],
  ["Escape", "Stop following, or give up a polygon", () => { points = []; if (mask) view.objects(mask); tried(api.stop); }],
  ["r", "Next doubtful frame", nextDoubt], ["[", "Smaller brush", () => { byId("size").value -= 4; }],
  ["]", "Larger brush", () => { byId("size").value = Number(byId("size").value) + 4; }],
  ["0", "Whole frame", () => view.fit()], ["?", "These keys", () => byId("help").showModal()],
];
const press = Object.fromEntries(actions.map(([key, , act]) => [key, act]));
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", tool(button.dataset.tool));
for (const [id, key] of [["undo", "z"], ["redo", "y"], ["snap", "s"], ["add", "n"], ["previous", "ArrowLeft"], ["next", "ArrowRight"],
  ["play", " "], ["forward-all", "Enter"], ["back-all", "Backspace"], ["follow-all", "a"], ["stop", "Escape"], ["doubt", "r"], ["help-button", "?"]]) {
  byId(id).addEventListener("click", () => press[key]());
}
byId("clear").addEventListener("click", () => {
  keep(mask.change(0, 0, state.width, state.height, 0, () => true));
  view.objects(mask);
});
for (const [key, words] of actions) {
  const term = document.createElement("dt"), text = document.createElement("dd");
  term.textContent = key === " " ? "Space" : key.length > 1 ? key : key.toUpperCase();
  text.textContent = words;
  byId("keys").append(term, text);
}
addEventListener("keydown", (event) => {
  const inField = event.target.matches("input:not([type=range]):not([type=checkbox]), textarea");
  const onButton = event.target.matches("button, input") && (event.key === " " || event.key === "Enter");
  if (inField || onButton || byId("help").open || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") { event.preventDefault(); (event.shiftKey ? press.y : press.z)(); }
    return;
  }
  if (/^[1-9]$/.test(key)) return chooseObject(Number(key));
  if (press[key]) { event.preventDefault(); press[key](); }
});

byId("download").addEventListener("click", () => tried(async () => {
  await saving;
  tell("Preparing the download");
  await api.download(byId("format").value);
  tell("Downloaded.");
}));

await api.ready();
take(await api.project());
view.resize(state.width, state.height);
if (state.objects.length) state.object = state.objects[0].id;
listObjects();
await show(state.given[0] ?? 0);
document.body.dataset.ready = "true";
