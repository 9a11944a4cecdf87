// What was painted and followed, in the memory of the page: compressed, some kilobytes a frame.

import { unzlibSync, zlibSync } from "../lib/fflate.mjs";
import { png, zipped } from "./files.js";
import { Stream } from "./network.js";

export class Project {
  constructor(network, video, tell) {
    this.network = network;
    this.video = video;
    this.tell = tell; // called with the progress
    this.masks = { given: new Map(), followed: new Map() };
    this.names = new Map();
    this.confidence = {};
    this.progress = { running: false, frame: -1, done: 0, total: 0, rate: 0, error: "" };
    this.following = Promise.resolve();
    this.stopped = true;
  }

  given() { return [...this.masks.given.keys()].sort((a, b) => a - b); }

  facts() {
    const { video, masks } = this, given = this.given();
    const words = given.map((index) => `--mask ${index}=given/${String(index).padStart(6, "0")}.png`);
    return {
      video: video.name, width: video.width, height: video.height, rate: video.rate, count: video.count,
      objects: [...this.names].sort(([a], [b]) => a - b)
        .map(([id, name]) => ({ id, name, colour: this.network.settings.colours[id] })),
      given, followed: [...masks.followed.keys()].filter((index) => !masks.given.has(index)).sort((a, b) => a - b),
      confidence: this.confidence, progress: this.progress, formats: ["masks.zip"],
      command: given.length ? ["s2svos infer", video.name, ...words, ...(given[0] ? ["--backwards"] : [])].join(" ") : "",
    };
  }

  frame(index) { return this.video.picture(index); }

  mask(index) {
    const packed = this.masks.given.get(index) ?? this.masks.followed.get(index);
    return packed ? unzlibSync(packed) : null;
  }

  paint(index, ids) {
    if (ids.some((id) => id)) {
      this.masks.given.set(index, zlibSync(ids, { level: 1 }));
      for (const id of new Set(ids)) if (id && !this.names.has(id)) this.names.set(id, `object ${id}`);
    } else this.masks.given.delete(index);
    return { objects: this.facts().objects };
  }

  async snap(index, ids) {
    const pixels = await this.video.frame(index);
    const stream = await Stream.open(this.network, this.video, pixels, ids), found = await stream.step(pixels);
    const seen = new Set(found);
    return found.map((id, at) => (id || seen.has(ids[at]) ? id : ids[at]));
  }

  name(id, text) {
    if (!text.trim()) throw new Error("A name has letters.");
    this.names.set(id, text.trim());
    return this.facts();
  }

  remove(id) {
    this.names.delete(id);
    for (const index of this.given()) {
      const ids = this.mask(index);
      if (ids.includes(id)) this.paint(index, ids.map((one) => (one === id ? 0 : one)));
    }
    return this.facts();
  }

  async follow({ start, last }) {
    await this.stop();
    const stretches = start === undefined ? plan(this.given(), this.video.count) : [[start, last]];
    const total = stretches.reduce((sum, [from, to]) => sum + Math.abs(to - from), 0);
    if (!total) throw new Error("There is nothing to follow; paint an object first.");
    for (const [from] of stretches) {
      if (!this.mask(from)?.some((id) => id)) throw new Error(`Frame ${from} has no mask to follow from; paint an object on it.`);
    }
    this.stopped = false;
    this.progress = { running: true, frame: -1, done: 0, total, rate: 0, error: "" };
    this.following = this.run(stretches);
    return this.progress;
  }

  async stop() {
    this.stopped = true;
    await this.following;
    return this.progress;
  }

  async run(stretches) {
    const began = performance.now();
    let error = "";
    try {
      for (const [start, last] of stretches) {
        for await (const index of this.stretch(start, last)) {
          const done = this.progress.done + 1;
          this.progress = { ...this.progress, frame: index, done, rate: (1000 * done) / (performance.now() - began) };
          this.tell({ ...this.progress, confidence: this.confidence[index] ?? {} });
        }
      }
    } catch (failed) { error = `Following failed: ${failed.message}`; }
    this.progress = { ...this.progress, running: false, error };
    this.tell({ ...this.progress, confidence: {} });
  }

  async *stretch(start, last) {
    const step = Math.sign(last - start);
    const stream = await Stream.open(this.network, this.video, await this.video.frame(start), this.mask(start));
    for await (const [index, pixels] of this.video.frames(start + step, last)) {
      if (this.stopped) return;
      const ids = await stream.step(pixels);
      if (this.masks.given.has(index)) await stream.correct(pixels, this.mask(index));
      else {
        this.masks.followed.set(index, zlibSync(ids, { level: 1 }));
        this.confidence[index] = stream.confidence;
      }
      yield index;
    }
  }

  // All masks as a zip of indexed PNGs: those of masks/ are of all frames, given/ what was painted.
  download() {
    const { video, masks } = this, palette = Uint8Array.from(atob(this.network.settings.palette), (c) => c.charCodeAt(0));
    const picture = (packed) => png(unzlibSync(packed), video.width, video.height, palette);
    function* files() {
      for (let index = 0; index < video.count; index++) {
        const given = masks.given.get(index), packed = given ?? masks.followed.get(index);
        if (packed) yield [`masks/${String(index).padStart(5, "0")}.png`, picture(packed)];
        if (given) yield [`given/${String(index).padStart(6, "0")}.png`, picture(given)];
      }
    }
    return zipped(files());
  }
}

// How all frames are followed: each from the nearest painted one.
function plan(given, count) {
  const stretches = [];
  given.forEach((start, place) => {
    const before = given[place - 1], after = given[place + 1];
    const first = before === undefined ? 0 : before + Math.floor((start - before) / 2) + 1;
    const last = after === undefined ? count - 1 : start + Math.floor((after - start) / 2);
    if (last > start) stretches.push([start, last]);
    if (first < start) stretches.push([start, first]);
  });
  return stretches;
}
