// Curves over the video's time, one lane for each quantity, all people in it; a cursor that seeks.
"use strict";

class Timeline {
  static MOST_LEFT = 164;
  static RIGHT = 66;
  static LANE = 86;
  static BAR = 8;
  static AXIS = 24;

  constructor(canvas, scene, onSeek) {
    this.canvas = canvas;
    this.scene = scene;
    this.onSeek = onSeek;
    this.times = scene.times_s;
    this.frame = 0;
    this.shown = scene.people.map(() => true);
    this.lanes = this.makeLanes();
    this.all();
    this.curves = document.createElement("canvas");
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => this.grabbed && this.seekTo(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => (this.grabbed = false));
    }
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  // Lanes by name and unit, in the order of the data; each with its common range.
  makeLanes() {
    const lanes = new Map();
    this.scene.timelines.forEach((line) => {
      const key = JSON.stringify([line.name, line.unit]);
      if (!lanes.has(key)) lanes.set(key, { name: line.name, unit: line.unit, lines: [] });
      const index = this.scene.people.findIndex((p) => p.person === line.person);
      lanes.get(key).lines.push({ index, values: line.values, limits: line.limits });
    });
    for (const lane of lanes.values()) {
      let [low, high] = [Infinity, -Infinity];
      for (const { values, limits } of lane.lines) {
        for (const value of limits || values) {
          if (!Number.isFinite(value)) continue;
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
      if (low > 0) low = 0;
      if (!(high > low)) [low, high] = Number.isFinite(high) ? [Math.min(0, high), high + 1] : [0, 1];
      Object.assign(lane, { low, high });
    }
    return [...lanes.values()];
  }

  height() {
    const bars = Math.max(1, this.scene.people.length) * (Timeline.BAR + 3) + 14;
    return bars + this.lanes.length * Timeline.LANE + Timeline.AXIS;
  }

  resize() {
    this.width = this.canvas.parentElement.clientWidth;
    this.left = Math.min(Timeline.MOST_LEFT, 0.34 * this.width);
    const ratio = window.devicePixelRatio || 1;
    this.canvas.style.height = `${this.height()}px`;
    for (const canvas of [this.canvas, this.curves]) {
      canvas.width = Math.max(1, Math.round(this.width * ratio));
      canvas.height = Math.round(this.height() * ratio);
    }
    this.ratio = ratio;
    this.redraw();
  }

  all() {
    const last = this.times.length ? this.times[this.times.length - 1] : 0;
    this.from_s = 0;
    this.to_s = Math.max(last, 1e-3);
    this.end_s = this.to_s;
  }

  zoom(factor, about_s = this.times[this.frame] ?? 0) {
    const span = Math.min(this.end_s, Math.max(0.2, (this.to_s - this.from_s) * factor));
    const share = (about_s - this.from_s) / (this.to_s - this.from_s);
    this.moveTo(about_s - share * span, span);
    this.redraw();
  }

  moveTo(from_s, span) {
    this.from_s = Math.max(0, Math.min(from_s, this.end_s - span));
    this.to_s = this.from_s + span;
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(event));
  }

  x(time_s) {
    const share = (time_s - this.from_s) / (this.to_s - this.from_s);
    return this.left + share * (this.width - this.left - Timeline.RIGHT);
  }

  timeAt(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    const share = (x - this.left) / (this.width - this.left - Timeline.RIGHT);
    return this.from_s + Math.max(0, Math.min(1, share)) * (this.to_s - this.from_s);
  }

  grab(event) {
    this.grabbed = true;
    this.canvas.setPointerCapture(event.pointerId);
    this.seekTo(event);
  }

  seekTo(event) {
    if (this.times.length) this.onSeek(nearestFrame(this.times, this.timeAt(event)));
  }

  setShown(index, shown) {
    this.shown[index] = shown;
    this.redraw();
  }

  show(frame) {
    this.frame = frame;
    const now = this.times[frame] ?? 0;
    if (now < this.from_s || now > this.to_s) {
      const span = this.to_s - this.from_s;
      this.moveTo(now - 0.05 * span, span);
      this.redraw();
    } else {
      this.draw();
    }
  }

  redraw() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    this.ink = { text: colour("--text"), muted: colour("--muted"), line: colour("--line") };
    const ctx = this.curves.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height());
    ctx.font = "12px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    this.drawAxis(ctx);
    ctx.save();
    this.drawPresence(ctx);
    this.lanes.forEach((lane, i) => this.drawLane(ctx, lane, this.top(i)));
    ctx.restore();
    this.draw();
  }

  top(lane) {
    return this.height() - Timeline.AXIS - (this.lanes.length - lane) * Timeline.LANE;
  }

  drawAxis(ctx) {
    const room = this.width - this.left - Timeline.RIGHT;
    const rough = ((this.to_s - this.from_s) * 80) / Math.max(room, 80);
    const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((s) => s >= rough) ?? 7200;
    const y = this.height() - Timeline.AXIS;
    ctx.textAlign = "center";
    for (let n = Math.ceil(this.from_s / step); n * step <= this.to_s + 1e-9; n++) {
      const x = Math.round(this.x(n * step)) + 0.5;
      ctx.strokeStyle = this.ink.line;
      ctx.beginPath();
      ctx.moveTo(x, 6);
      ctx.lineTo(x, y);
      ctx.stroke();
      ctx.fillStyle = this.ink.muted;
      ctx.fillText(clock(n * step, step < 1 ? 2 - (step >= 0.1) : 0), x, y + 13);
    }
  }

  clip(ctx, top, height) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.left - 1, top, this.width - this.left - Timeline.RIGHT + 2, height);
    ctx.clip();
  }

  // Bars where a person is in the video.
  drawPresence(ctx) {
    ctx.fillStyle = this.ink.text;
    ctx.textAlign = "left";
    ctx.fillText("In the picture", 0, 8 + Math.max(1, this.scene.people.length) * 5.5);
    this.clip(ctx, 0, this.height());
    this.scene.people.forEach((person, i) => {
      ctx.globalAlpha = this.shown[i] ? 1 : 0.25;
      ctx.fillStyle = person.colour;
      const y = 8 + i * (Timeline.BAR + 3);
      for (const [first, last] of runs(person.frames)) {
        const end = this.times[Math.min(last + 1, this.times.length - 1)];
        const x = this.x(this.times[first]);
        ctx.fillRect(x, y, Math.max(1.5, this.x(end) - x), Timeline.BAR);
      }
    });
    ctx.restore();
  }

  drawLane(ctx, lane, top) {
    const bottom = top + Timeline.LANE - 12;
    const y = (value) => bottom - ((value - lane.low) / (lane.high - lane.low)) * (bottom - top - 16);
    ctx.textAlign = "left";
    ctx.fillStyle = this.ink.text;
    ctx.fillText(fitted(ctx, lane.name, this.left - 40), 0, top + 34);
    ctx.fillStyle = this.ink.muted;
    ctx.fillText(fitted(ctx, lane.unit, this.left - 40), 0, top + 50);
    ctx.textAlign = "right";
    for (const value of [lane.low, lane.high]) {
      ctx.fillText(short(value), this.left - 8, y(value));
      ctx.strokeStyle = this.ink.line;
      ctx.beginPath();
      ctx.moveTo(this.left, Math.round(y(value)) + 0.5);
      ctx.lineTo(this.width - Timeline.RIGHT, Math.round(y(value)) + 0.5);
      ctx.stroke();
    }
    this.clip(ctx, top, Timeline.LANE);
    for (const { index, values } of lane.lines) {
      if (!this.shown[index]) continue;
      const person = this.scene.people[index];
      ctx.strokeStyle = ctx.fillStyle = person.colour;
      ctx.lineWidth = 1.6;
      ctx.lineJoin = "round";
      this.drawCurve(ctx, person.frames, values, y);
    }
    ctx.restore();
    ctx.lineWidth = 1;
  }

  // Of many frames in a column of pixels the lowest and the highest are drawn: no peak is lost.
  drawCurve(ctx, frames, values, y) {
    ctx.beginPath();
    let last = null;
    let column = null;
    const flush = () => {
      if (!column) return;
      const { x, first, low, high, final, joined } = column;
      if (joined) ctx.lineTo(x, y(first));
      else ctx.moveTo(x, y(first));
      if (high > low) {
        ctx.lineTo(x, y(low));
        ctx.lineTo(x, y(high));
      }
      ctx.lineTo(x + (joined ? 0 : 0.01), y(final));
      column = null;
    };
    for (let row = 0; row < frames.length; row++) {
      const value = values[row];
      const x = this.x(this.times[frames[row]]);
      if (x < this.left - 40 || x > this.width || !Number.isFinite(value)) continue;
      const joined = last !== null && frames[row] === frames[last] + 1 && last === row - 1;
      last = row;
      if (column && joined && x - column.x < 0.7) {
        column.low = Math.min(column.low, value);
        column.high = Math.max(column.high, value);
        column.final = value;
        continue;
      }
      flush();
      column = { x, first: value, low: value, high: value, final: value, joined };
    }
    flush();
    ctx.lineCap = "round";
    ctx.stroke();
  }

  draw() {
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    ctx.drawImage(this.curves, 0, 0);
    if (!this.times.length || !this.ink) return;
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const x = Math.round(this.x(this.times[this.frame])) + 0.5;
    ctx.strokeStyle = this.ink.text;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.moveTo(x, 2);
    ctx.lineTo(x, this.height() - Timeline.AXIS);
    ctx.stroke();
    ctx.font = "600 12px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    this.lanes.forEach((lane, i) => this.drawReadout(ctx, lane, this.top(i)));
  }

  // The values under the cursor, beside the lane, at most as many as fit.
  drawReadout(ctx, lane, top) {
    let y = top + 18;
    for (const { index, values } of lane.lines) {
      const row = this.shown[index] ? this.scene.people[index].rows[this.frame] : -1;
      if (!(row >= 0) || y > top + Timeline.LANE - 10) continue;
      ctx.fillStyle = this.scene.people[index].colour;
      const value = values[row];
      ctx.fillText(Number.isFinite(value) ? short(value) : "–", this.width - Timeline.RIGHT + 10, y);
      y += 15;
    }
  }
}

function nearestFrame(times, time_s) {
  const after = frameAt(times, time_s);
  const next = Math.min(after + 1, times.length - 1);
  return Math.abs(times[next] - time_s) < Math.abs(times[after] - time_s) ? next : after;
}

// The last frame that was taken by then.
function frameAt(times, time_s) {
  let [low, high] = [0, times.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= time_s) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The first row whose frame is not before this one; as many as there are for none.
function rowAfter(frames, frame) {
  let [low, high] = [0, frames.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (frames[middle] < frame) low = middle + 1;
    else high = middle;
  }
  return low;
}

// [first, last] of each stretch of consecutive numbers.
function runs(frames) {
  const out = [];
  for (const frame of frames) {
    const open = out.at(-1);
    if (open && frame === open[1] + 1) open[1] = frame;
    else out.push([frame, frame]);
  }
  return out;
}

function clock(time_s, digits = 0) {
  const minutes = Math.floor(time_s / 60);
  const seconds = (time_s - 60 * minutes).toFixed(digits);
  return minutes ? `${minutes}:${seconds.padStart(digits ? digits + 3 : 2, "0")}` : `${seconds} s`;
}

function fitted(ctx, text, width) {
  if (ctx.measureText(text).width <= width) return text;
  let length = Math.min(text.length, 60);
  while (length > 1 && ctx.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}

function short(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2).replace(/\.0+$/, "");
}
