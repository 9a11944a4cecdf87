// Masks as indexed PNGs, and a zip of them.

import { Zip, ZipPassThrough, zlibSync } from "../lib/fflate.mjs";

const CRC = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(kind, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, 8 + data.length)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, ~crc >>> 0);
  return bytes;
}

// The PNG of ids, a byte a pixel; palette: 768 bytes.
export function png(ids, width, height, palette) {
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3], 8); // bits a pixel, and a palette
  const rows = new Uint8Array((width + 1) * height); // each begins with its filter, none
  for (let y = 0; y < height; y++) rows.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  return new Blob([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", header),
    chunk("PLTE", palette), chunk("IDAT", zlibSync(rows, { level: 1 })), chunk("IEND", new Uint8Array())]);
}

// A zip of [name, Blob], which are PNGs and so need no compression.
export async function zipped(files) {
  const parts = [], zip = new Zip((error, data) => { if (error) throw error; parts.push(data); });
  for await (const [name, blob] of files) {
    const file = new ZipPassThrough(name);
    zip.add(file);
    file.push(new Uint8Array(await blob.arrayBuffer()), true);
  }
  zip.end();
  return new Blob(parts, { type: "application/zip" });
}
