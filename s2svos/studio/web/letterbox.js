// Between the video's size and the network's, as s2svos_engines/letterbox.py does it with the whole
// frame: the network that was trained on such pictures sees the same.

const STRETCH = 1.15; // ratio of aspect ratios up to which a frame is stretched instead of padded
const AREA_AVERAGE = 3.5; // times the network's size from which a frame is averaged down in one go

export class Letterbox {
  constructor(video, network) { // sizes: { width, height }
    this.video = video;
    this.network = network;
    const down = network.height / video.height, right = network.width / video.width;
    const scale = Math.min(down, right);
    this.stretched = Math.max(down, right) <= STRETCH * scale;
    this.rows = this.stretched ? network.height : Math.min(network.height, Math.max(1, Math.round(scale * video.height)));
    this.columns = this.stretched ? network.width : Math.min(network.width, Math.max(1, Math.round(scale * video.width)));
  }

  // RGBA pixels of the video as RGB of the network, uint8 [h, w, 3]; beyond the frame its edge goes on.
  frame(pixels) {
    const { network, rows, columns } = this, out = new Uint8Array(network.height * network.width * 3);
    for (let channel = 0; channel < 3; channel++) {
      const small = this.shrink(pixels, 4, channel);
      for (let y = 0; y < network.height; y++) {
        const from = Math.min(y, rows - 1) * columns;
        for (let x = 0, at = y * network.width * 3 + channel; x < network.width; x++, at += 3) {
          out[at] = small[from + Math.min(x, columns - 1)];
        }
      }
    }
    return out;
  }

  // The place of one id of the video as a mask of the network, uint8 [h, w], 0 to 255.
  mask(ids, id) {
    const { network, rows, columns } = this, out = new Uint8Array(network.height * network.width);
    const small = this.shrink(ids.map((one) => (one === id ? 255 : 0)), 1, 0);
    for (let y = 0; y < rows; y++) out.set(small.subarray(y * columns, (y + 1) * columns), y * network.width);
    return out;
  }

  shrink(pixels, stride, channel) {
    return this.video.height > AREA_AVERAGE * this.rows
      ? this.averaged(pixels, stride, channel) : this.halved(pixels, stride, channel);
  }

  // Drawn at twice the size, then averaged two by two.
  halved(pixels, stride, channel) {
    const { rows, columns, video } = this, out = new Uint8Array(rows * columns);
    const across = taps(2 * columns, video.width), down = taps(2 * rows, video.height);
    const row = (y, into) => {
      const top = down.low[y] * video.width, bottom = down.high[y] * video.width, part = down.part[y];
      for (let x = 0; x < 2 * columns; x++) {
        const left = across.low[x], right = across.high[x], share = across.part[x];
        const a = pixels[(top + left) * stride + channel], b = pixels[(top + right) * stride + channel];
        const c = pixels[(bottom + left) * stride + channel], d = pixels[(bottom + right) * stride + channel];
        const upper = a + (b - a) * share, lower = c + (d - c) * share;
        into[x] = (upper + (lower - upper) * part + 0.5) | 0;
      }
    };
    const even = new Uint8Array(2 * columns), odd = new Uint8Array(2 * columns);
    for (let y = 0; y < rows; y++) {
      row(2 * y, even);
      row(2 * y + 1, odd);
      for (let x = 0; x < columns; x++) {
        out[y * columns + x] = (even[2 * x] + even[2 * x + 1] + odd[2 * x] + odd[2 * x + 1] + 2) >> 2;
      }
    }
    return out;
  }

  averaged(pixels, stride, channel) {
    const { rows, columns, video } = this, out = new Uint8Array(rows * columns);
    const across = covers(columns, video.width), down = covers(rows, video.height);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        let sum = 0, weight = 0;
        for (const [row, share] of down[y]) {
          for (const [column, part] of across[x]) {
            sum += share * part * pixels[(row * video.width + column) * stride + channel];
            weight += share * part;
          }
        }
        out[y * columns + x] = (sum / weight + 0.5) | 0;
      }
    }
    return out;
  }

  // Masks of the network, uint8 [objects, h, w], as ids of the video: the most probable object of
  // each pixel, 0 where none reaches one half.
  merge(masks, ids) {
    const { rows, columns, network, video } = this, labels = new Uint8Array(video.width * video.height);
    const across = taps(video.width, columns), down = taps(video.height, rows);
    const best = new Uint8Array(video.width), column = new Float32Array(columns);
    for (let y = 0; y < video.height; y++) {
      best.fill(127);
      const line = labels.subarray(y * video.width, (y + 1) * video.width);
      ids.forEach((id, object) => {
        const plane = object * network.height * network.width;
        const top = plane + down.low[y] * network.width, bottom = plane + down.high[y] * network.width;
        let any = false;
        for (let x = 0; x < columns; x++) {
          column[x] = masks[top + x] + (masks[bottom + x] - masks[top + x]) * down.part[y];
          any ||= column[x] >= 127.5;
        }
        if (!any) return;
        for (let x = 0; x < video.width; x++) {
          const left = column[across.low[x]];
          const value = (left + (column[across.high[x]] - left) * across.part[x] + 0.5) | 0;
          if (value > best[x]) { best[x] = value; line[x] = id; }
        }
      });
    }
    return labels;
  }
}

// For each of so many places the two of another axis between which it lies, and how far.
function taps(count, other) {
  const low = new Int32Array(count), high = new Int32Array(count), part = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = Math.max(0, ((i + 0.5) * other) / count - 0.5);
    low[i] = Math.min(other - 1, Math.floor(at));
    high[i] = Math.min(other - 1, low[i] + 1);
    part[i] = at - low[i];
  }
  return { low, high, part };
}

// For each of so many places those of a longer axis that it covers, with their shares.
function covers(count, other) {
  return Array.from({ length: count }, (_, i) => {
    const begin = (i * other) / count, end = ((i + 1) * other) / count, found = [];
    for (let at = Math.floor(begin); at < Math.min(other, Math.ceil(end)); at++) {
      found.push([at, Math.min(end, at + 1) - Math.max(begin, at)]);
    }
    return found;
  });
}
