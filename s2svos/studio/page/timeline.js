// The frames from left to right: which are painted, and for each object how sure the network was.

const HEAD = 14; // pixels above the objects' strips

export class Timeline {
  constructor(canvas, seek) {
    this.canvas = canvas;
    const jump = (event) => {
      const box = canvas.getBoundingClientRect();
      seek(Math.floor(((event.clientX - box.left) / box.width) * this.count));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); jump(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
  }

  draw({ count, index, given, followed, confidence, objects }) {
    const { canvas } = this;
    this.count = count;
    canvas.width = canvas.clientWidth;
    canvas.height = canvas.clientHeight;
    canvas.setAttribute("aria-valuemax", count - 1);
    canvas.setAttribute("aria-valuenow", index);
    const context = canvas.getContext("2d"), step = canvas.width / count, wide = Math.max(1, step);
    context.fillStyle = "#3a4250";
    for (const one of followed) context.fillRect(one * step, 0, wide, HEAD - 4);
    context.fillStyle = "#ffd34d";
    for (const one of given) context.fillRect(one * step, 0, Math.max(3, step), HEAD - 2);
    const high = Math.min(18, (canvas.height - HEAD) / Math.max(1, objects.length));
    objects.forEach(({ id }, row) => {
      for (const [one, sure] of Object.entries(confidence)) {
        if (!(id in sure)) continue;
        context.fillStyle = `hsl(${Math.round(Math.max(0, (sure[id] - 0.5) * 2) * 120)} 70% 45%)`;
        context.fillRect(one * step, HEAD + row * high, wide, high - 2);
      }
    });
    context.fillStyle = "#fff";
    context.fillRect(index * step + wide / 2 - 1, 0, 2, canvas.height);
  }
}
