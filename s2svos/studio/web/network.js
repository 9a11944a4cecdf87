// The network in ONNX Runtime, and the stream of one video: the state goes in and out of every call.

import * as ort from "../lib/ort.wasm.min.mjs";
import { Letterbox } from "./letterbox.js";

ort.env.wasm.wasmPaths = new URL("../lib/", import.meta.url).href;
// Threads share memory, which a browser allows where the server sends COOP and COEP.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;

export class Network {
  static async load(base, told = () => {}) {
    const settings = await (await fetch(new URL("settings.json", base))).json();
    const pieces = new Map();
    for (const name of new Set(Object.values(settings.graphs).flat())) {
      told(`Loading ${name}`);
      const response = await fetch(new URL(name, base));
      if (!response.ok) throw new Error(`${name} is missing beside the page.`);
      pieces.set(name, new Uint8Array(await response.arrayBuffer()));
    }
    const graphs = {};
    for (const [name, parts] of Object.entries(settings.graphs)) {
      told(`Preparing ${name}`);
      // A model is a protocol buffer: one after the other its pieces are the whole.
      const model = new Uint8Array(await new Blob(parts.map((one) => pieces.get(one))).arrayBuffer());
      graphs[name] = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    }
    return new Network(settings, graphs);
  }

  constructor(settings, graphs) {
    this.settings = settings;
    this.graphs = graphs;
    this.size = { width: settings.width, height: settings.height };
  }

  async init(frame, masks, count) {
    const { width, height } = this.size;
    const found = await this.graphs.init.run({
      frame: new ort.Tensor("uint8", frame, [height, width, 3]),
      first_masks: new ort.Tensor("uint8", masks, [count, height, width]),
    });
    return this.states(found);
  }

  async step(frame, states) {
    const { width, height } = this.size;
    const feeds = { frame: new ort.Tensor("uint8", frame, [height, width, 3]) };
    for (const { name } of this.settings.states) feeds[`in_${name}`] = states[name];
    const found = await this.graphs.step.run(feeds);
    return { masks: found.object_masks.data, states: this.states(found) };
  }

  states(found) {
    return Object.fromEntries(this.settings.states.map(({ name }) => [name, found[`out_${name}`]]));
  }

  // The states of objects of two kinds, in an order given by indices into first and then second.
  joined(first, second, order) {
    const states = {}, count = first?.[this.settings.states[0].name].dims[0] ?? 0;
    for (const { name, shared, entered } of this.settings.states) {
      const [a, b] = [first?.[name], second?.[name]], like = a ?? b;
      const [used, ...others] = new Set(order.map((index) => (index < count ? a : b)));
      if (shared) { states[name] = b ?? a; continue; }
      if (entered && !others.length && used.dims[0] === 1) { states[name] = used; continue; }
      const size = like.dims.slice(1).reduce((x, y) => x * y, 1);
      const data = new like.data.constructor(order.length * size);
      order.forEach((index, place) => {
        const [from, object] = index < count ? [a, index] : [b, index - count];
        const at = from.dims[0] === 1 ? 0 : object; // 1 for all objects that entered together
        data.set(from.data.subarray(at * size, (at + 1) * size), place * size);
      });
      states[name] = new ort.Tensor(like.type, data, [order.length, ...like.dims.slice(1)]);
    }
    return states;
  }
}

// One video and the objects that are followed in it.
export class Stream {
  static async open(network, size, pixels, ids) {
    const stream = new Stream(network, size);
    await stream.correct(pixels, ids);
    return stream;
  }

  constructor(network, size) {
    this.network = network;
    this.letterbox = new Letterbox(size, network.size);
    this.ids = [];
    this.states = null;
    this.confidence = {};
  }

  // Follow the objects into the next frame, RGBA pixels; returns its ids.
  async step(pixels) {
    const found = await this.network.step(this.letterbox.frame(pixels), this.states);
    this.states = found.states;
    this.confidence = this.measured(found.masks);
    return this.letterbox.merge(found.masks, this.ids);
  }

  // Where objects are on the latest frame, which is what is remembered of them from there on.
  async correct(pixels, ids) {
    const entering = [...new Set(ids)].filter((id) => id).sort((a, b) => a - b);
    const { width, height } = this.network.size, masks = new Uint8Array(entering.length * width * height);
    entering.forEach((id, place) => masks.set(this.letterbox.mask(ids, id), place * width * height));
    const states = await this.network.init(this.letterbox.frame(pixels), masks, entering.length);
    const known = this.ids, all = [...new Set([...known, ...entering])].sort((a, b) => a - b);
    const order = all.map((id) => (entering.includes(id) ? known.length + entering.indexOf(id) : known.indexOf(id)));
    this.states = this.network.joined(this.states, states, order);
    this.ids = all;
  }

  // Mean probability of each object's pixels; 0 where it has none.
  measured(masks) {
    const size = this.network.size.width * this.network.size.height;
    return Object.fromEntries(this.ids.map((id, object) => {
      let sum = 0, count = 0;
      for (const value of masks.subarray(object * size, (object + 1) * size)) {
        if (value > 127) { sum += value; count++; }
      }
      return [id, count ? sum / count / 255 : 0];
    }));
  }
}
