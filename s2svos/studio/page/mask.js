// The ids of a frame, a byte a pixel, and what tools do to them. Every change returns a patch, a
// rectangle before and after, by which it is undone and drawn.

export class Mask {
  constructor(width, height, ids = null) {
    this.width = width;
    this.height = height;
    this.ids = ids || new Uint8Array(width * height);
  }

  // Change the pixels of a rectangle for which inside(x, y, id) says so.
  change(left, top, right, bottom, id, inside) {
    const x = Math.max(0, Math.floor(left)), y = Math.max(0, Math.floor(top));
    const w = Math.min(this.width, Math.ceil(right)) - x, h = Math.min(this.height, Math.ceil(bottom)) - y;
    if (w <= 0 || h <= 0) return null;
    const before = this.cut(x, y, w, h);
    for (let row = y; row < y + h; row++) {
      for (let column = x, at = row * this.width + x; column < x + w; column++, at++) {
        if (inside(column + 0.5, row + 0.5, this.ids[at])) this.ids[at] = id;
      }
    }
    return { x, y, w, h, before, after: this.cut(x, y, w, h) };
  }

  // A stroke of a round brush from one point to another.
  stroke(x0, y0, x1, y1, radius, id) {
    const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy, square = radius * radius;
    const near = (x, y) => {
      const t = length ? Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
      const a = x - x0 - t * dx, b = y - y0 - t * dy;
      return a * a + b * b <= square;
    };
    return this.change(Math.min(x0, x1) - radius, Math.min(y0, y1) - radius,
      Math.max(x0, x1) + radius, Math.max(y0, y1) + radius, id, near);
  }

  // The inside of a closed line, by the rule of even and odd crossings.
  area(points, id) {
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const inside = (x, y) => {
      let odd = false;
      for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
        const a = points[i], b = points[j];
        if ((a.y > y) !== (b.y > y) && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) odd = !odd;
      }
      return odd;
    };
    return this.change(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), id, inside);
  }

  // All that hangs together with a pixel and has its id.
  fill(x, y, id) {
    const { width, height, ids } = this;
    const start = Math.floor(y) * width + Math.floor(x), from = ids[start];
    if (from === id) return null;
    const seen = new Uint8Array(width * height), stack = [start];
    seen[start] = 1;
    let left = width, right = 0, top = height, bottom = 0;
    while (stack.length) {
      const at = stack.pop(), column = at % width, row = (at - column) / width;
      left = Math.min(left, column); right = Math.max(right, column + 1);
      top = Math.min(top, row); bottom = Math.max(bottom, row + 1);
      const take = (next) => { if (!seen[next] && ids[next] === from) { seen[next] = 1; stack.push(next); } };
      if (column) take(at - 1);
      if (column < width - 1) take(at + 1);
      if (row) take(at - width);
      if (row < height - 1) take(at + width);
    }
    return this.change(left, top, right, bottom, id,
      (px, py) => seen[Math.floor(py) * width + Math.floor(px)] === 1);
  }

  // All ids anew, as Snap gives them.
  replace(ids) {
    const before = this.cut(0, 0, this.width, this.height);
    this.ids.set(ids);
    return { x: 0, y: 0, w: this.width, h: this.height, before, after: ids.slice() };
  }

  cut(x, y, w, h) {
    const found = new Uint8Array(w * h);
    for (let row = 0; row < h; row++) {
      const at = (y + row) * this.width + x;
      found.set(this.ids.subarray(at, at + w), row * w);
    }
    return found;
  }

  put(patch, ids) {
    for (let row = 0; row < patch.h; row++) {
      this.ids.set(ids.subarray(row * patch.w, (row + 1) * patch.w), (patch.y + row) * this.width + patch.x);
    }
  }
}

// One patch from the patches of one stroke.
export function joined(mask, patches) {
  const x = Math.min(...patches.map((p) => p.x)), y = Math.min(...patches.map((p) => p.y));
  const right = Math.max(...patches.map((p) => p.x + p.w)), bottom = Math.max(...patches.map((p) => p.y + p.h));
  const whole = { x, y, w: right - x, h: bottom - y };
  whole.after = mask.cut(x, y, whole.w, whole.h);
  for (const patch of [...patches].reverse()) mask.put(patch, patch.before);
  whole.before = mask.cut(x, y, whole.w, whole.h);
  mask.put(whole, whole.after);
  return whole;
}
