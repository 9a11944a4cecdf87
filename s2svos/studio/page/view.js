// The frame and its objects on two canvases, which are zoomed and moved together.

const OPACITY = 130; // of 255

export class View {
  constructor(stage, frame, overlay) {
    this.stage = stage;
    this.frame = frame;
    this.overlay = overlay;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.colours = new Map();
  }

  resize(width, height) {
    for (const canvas of [this.frame, this.overlay]) { canvas.width = width; canvas.height = height; }
    this.width = width;
    this.height = height;
    this.fit();
  }

  fit() {
    const { clientWidth: w, clientHeight: h } = this.stage;
    this.scale = Math.min(w / this.width, h / this.height);
    this.x = (w - this.width * this.scale) / 2;
    this.y = (h - this.height * this.scale) / 2;
    this.place();
  }

  zoom(factor, x, y) {
    const scale = Math.min(40, Math.max(0.05, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.place();
  }

  move(dx, dy) { this.x += dx; this.y += dy; this.place(); }

  place() {
    for (const canvas of [this.frame, this.overlay]) {
      canvas.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    }
  }

  // Where a pointer is, in pixels of the video.
  point(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: (event.clientX - box.left - this.x) / this.scale, y: (event.clientY - box.top - this.y) / this.scale };
  }

  picture(bitmap) {
    this.frame.getContext("2d").drawImage(bitmap, 0, 0, this.width, this.height);
  }

  // Objects of a rectangle of the mask.
  objects(mask, { x, y, w, h } = { x: 0, y: 0, w: mask.width, h: mask.height }) {
    const image = new ImageData(w, h), pixels = new Uint32Array(image.data.buffer);
    for (let row = 0, out = 0; row < h; row++) {
      for (let at = (y + row) * mask.width + x, end = at + w; at < end; at++, out++) {
        const id = mask.ids[at];
        if (id) pixels[out] = this.colour(id);
      }
    }
    this.overlay.getContext("2d").putImageData(image, x, y);
  }

  colour(id) {
    if (!this.colours.has(id)) this.setColour(id, "#ff0000");
    return this.colours.get(id);
  }

  setColour(id, text) {
    const value = parseInt(text.slice(1), 16);
    const [red, green, blue] = [value >> 16, (value >> 8) & 255, value & 255];
    this.colours.set(id, ((OPACITY << 24) | (blue << 16) | (green << 8) | red) >>> 0);
  }

  // A line that is not painted yet.
  outline(mask, points) {
    this.objects(mask);
    const context = this.overlay.getContext("2d");
    context.beginPath();
    points.forEach((p, index) => (index ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
    context.closePath();
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(1, 2 / this.scale);
    context.stroke();
  }
}
