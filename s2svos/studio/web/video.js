// The frames of a video file, decoded by the browser's WebCodecs.

import { ALL_FORMATS, BlobSource, EncodedPacketSink, Input, VideoSampleSink } from "../lib/mediabunny.min.mjs";

const AHEAD = 40; // frames that are decoded on the way to one rather than looking for a key frame
const KEPT = 48; // pictures that were looked at lately
const PIECE = 24; // frames that are decoded at once to be shown backwards

export class Video {
  static async open(file) {
    const input = new Input({ formats: ALL_FORMATS, source: new BlobSource(file) });
    const track = await input.getPrimaryVideoTrack();
    if (!track) throw new Error(`${file.name} holds no video.`);
    if (!(await track.canDecode())) throw new Error(`This browser cannot decode ${file.name} (${track.codec}).`);
    const stamps = [];
    const packets = new EncodedPacketSink(track).packets(undefined, undefined, { metadataOnly: true });
    for await (const packet of packets) stamps.push(packet.timestamp);
    if (!stamps.length) throw new Error(`${file.name} holds no frame.`);
    return new Video(file.name, track, stamps.sort((a, b) => a - b));
  }

  constructor(name, track, stamps) {
    this.name = name;
    this.width = track.displayWidth;
    this.height = track.displayHeight;
    this.count = stamps.length;
    this.rate = stamps.length > 1 ? (stamps.length - 1) / (stamps.at(-1) - stamps[0]) : 24;
    this.stamps = stamps;
    this.sink = new VideoSampleSink(track);
    this.canvas = new OffscreenCanvas(this.width, this.height);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pictures = new Map(); // by index, the latest last
    this.reading = null;
    this.next = 0;
    this.turn = Promise.resolve();
  }

  // RGBA pixels of the frames from one to another, forwards or backwards.
  async *frames(first, last) {
    const step = first <= last ? 1 : -1;
    for (let begin = first; step * (last - begin) >= 0; begin += step * PIECE) {
      const end = begin + step * (Math.min(PIECE, step * (last - begin) + 1) - 1), piece = [];
      for await (const [index, pixels] of this.decoded(Math.min(begin, end), Math.max(begin, end))) {
        if (step > 0) yield [index, pixels]; else piece.push([index, pixels]);
      }
      yield* piece.reverse();
    }
  }

  async *decoded(first, last) {
    const end = last + 1 < this.count ? this.stamps[last + 1] : undefined;
    let index = first;
    for await (const sample of this.sink.samples(this.stamps[first], end)) {
      const pixels = this.pixels(sample);
      await this.keep(index);
      yield [index++, pixels];
    }
  }

  pixels(sample) {
    sample.draw(this.context, 0, 0, this.width, this.height);
    sample.close();
    return this.context.getImageData(0, 0, this.width, this.height).data;
  }

  // RGBA pixels of one frame.
  async frame(index) {
    for await (const [, pixels] of this.decoded(index, index)) return pixels;
    throw new Error(`There is no frame ${index}.`);
  }

  // A picture of one frame, to be shown; one after the other, as they share the decoder.
  picture(index) {
    this.turn = this.turn.catch(() => {}).then(() => this.look(index));
    return this.turn;
  }

  async look(index) {
    if (!this.pictures.has(index)) {
      if (!this.reading || index < this.next || index > this.next + AHEAD) {
        await this.reading?.return();
        this.reading = this.sink.samples(this.stamps[index]);
        this.next = index;
      }
      while (this.next <= index) {
        const { value, done } = await this.reading.next();
        if (done) throw new Error(`There is no frame ${index}.`);
        const drawn = new OffscreenCanvas(this.width, this.height);
        value.draw(drawn.getContext("2d"), 0, 0, this.width, this.height);
        value.close();
        this.remember(this.next++, drawn.transferToImageBitmap());
      }
    }
    return createImageBitmap(this.pictures.get(index));
  }

  async keep(index) { this.remember(index, await createImageBitmap(this.canvas)); }

  remember(index, bitmap) {
    this.pictures.get(index)?.close();
    this.pictures.delete(index);
    this.pictures.set(index, bitmap);
    if (this.pictures.size > KEPT) {
      const [oldest, old] = this.pictures.entries().next().value;
      old.close();
      this.pictures.delete(oldest);
    }
  }
}
