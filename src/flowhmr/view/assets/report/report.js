// Puts the page together: decodes the motion, plays it, keeps player, timeline and video in step.
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);

  function bytes(base64) {
    const text = atob(base64);
    const out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out.buffer;
  }

  function decode(data) {
    const { body } = data;
    const Index = body.index_bits === 16 ? Uint16Array : Uint32Array;
    const times_s = new Float32Array(bytes(data.times_s));
    const people = data.people.map((person) => {
      const steps = new Int16Array(bytes(person.verts));
      const frames = new Int32Array(bytes(person.frames));
      const rows = new Int32Array(times_s.length).fill(-1);
      frames.forEach((frame, row) => (rows[frame] = row));
      return {
        ...person,
        frames,
        rows,
        verts_m: Float32Array.from(steps, (step) => step * person.verts_step_m),
        rotations: Float32Array.from(new Int16Array(bytes(person.rotations)), (q) => q / 32767),
        translation_m: new Float32Array(bytes(person.translation_m)),
      };
    });
    return {
      ...data,
      times_s,
      people,
      body: {
        ...body,
        faces: new Index(bytes(body.faces)),
        bones: new Uint8Array(bytes(body.bones)),
        weights: new Uint8Array(bytes(body.weights)),
      },
      timelines: data.timelines.map((t) => ({ ...t, values: new Float32Array(bytes(t.values)) })),
    };
  }

  const scene = decode(JSON.parse($("#scene").textContent));
  const times = scene.times_s;
  const last = times.length - 1;
  const state = { frame: 0, playing: false, speed: 1, time_s: 0, view: "camera", style: "mesh" };
  const video = $("#video video");
  let player = null;
  let timeline = null;

  function seek(frame) {
    if (last < 0) return;
    state.frame = Math.max(0, Math.min(last, Math.round(frame)));
    state.time_s = times[state.frame];
    show();
    syncVideo();
  }

  function show() {
    player?.show(state.frame);
    timeline.show(state.frame);
    $("#scrub").value = state.frame;
    $("#time").textContent = clock(times[state.frame], 2);
    $("#frame").textContent = `frame ${state.frame} / ${last}`;
    const present = scene.people.some((person) => person.rows[state.frame] >= 0);
    $("#nobody").hidden = present;
    document.querySelectorAll("#legend button").forEach((button, i) => {
      button.classList.toggle("away", !(scene.people[i].rows[state.frame] >= 0));
    });
  }

  function play(playing) {
    state.playing = playing && last > 0;
    if (state.playing && state.frame === last) seek(0);
    $("#play").setAttribute("aria-pressed", state.playing);
    $("#play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
    $("#play").classList.toggle("playing", state.playing);
    state.clock_ms = performance.now();
    syncVideo();
    if (state.playing) requestAnimationFrame(tick);
  }

  function tick(now_ms) {
    if (!state.playing) return;
    state.time_s += (Math.max(0, now_ms - state.clock_ms) / 1000) * state.speed;
    state.clock_ms = Math.max(now_ms, state.clock_ms);
    const length = times[last] + times[last] / last;
    if (state.time_s >= length) {
      if (!$("#loop").checked) {
        seek(last);
        play(false);
        return;
      }
      state.time_s %= length;
    }
    const frame = frameAt(times, state.time_s);
    if (frame !== state.frame) {
      state.frame = frame;
      show();
    }
    syncVideo();
    requestAnimationFrame(tick);
  }

  // Where the middle of a frame is in the video, which has a picture for each frame at its own time;
  // the last is shown until the end. In the middle no rounding shows a neighbour.
  function videoTime(frame) {
    return (times[frame] + (frame < last ? times[frame + 1] : video.duration)) / 2;
  }

  // The video follows the page's clock while it plays, and shows the page's frame while it rests.
  function syncVideo() {
    if (!video || !Number.isFinite(video.duration)) return;
    if (state.playing) {
      video.playbackRate = state.speed;
      const now_s = videoTime(state.frame);
      if (Math.abs(video.currentTime - now_s) > 0.25) video.currentTime = now_s;
      if (video.paused) video.play().catch(() => {});
    } else if (!video.paused) {
      video.pause(); // and then seek: a seek before it has stopped may show a later frame
    } else {
      restVideo();
    }
  }

  function restVideo() {
    if (!state.playing) video.currentTime = videoTime(state.frame);
  }

  function choose(group, value) {
    document.querySelectorAll(`#${group} button`).forEach((button) => {
      button.setAttribute("aria-pressed", button.value === value);
    });
  }

  function setView(view) {
    state.view = view;
    choose("views", view);
    player?.setView(view);
  }

  function setStyle(style) {
    state.style = style;
    choose("styles", style);
    player?.setStyle(style);
  }

  function setShown(index, shown) {
    const button = document.querySelectorAll("#legend button")[index];
    button.setAttribute("aria-pressed", shown);
    player?.setShown(index, shown);
    timeline.setShown(index, shown);
  }

  function buildLegend() {
    scene.people.forEach((person, index) => {
      const button = document.createElement("button");
      const swatch = document.createElement("i");
      swatch.style.background = person.colour;
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = "Show or hide";
      button.append(swatch, `Person ${person.person}`);
      button.addEventListener("click", () => {
        setShown(index, button.getAttribute("aria-pressed") !== "true");
      });
      $("#legend").append(button);
    });
  }

  function listen() {
    $("#play").addEventListener("click", () => play(!state.playing));
    $("#back").addEventListener("click", () => step(-1));
    $("#on").addEventListener("click", () => step(1));
    $("#scrub").addEventListener("input", (event) => seek(Number(event.target.value)));
    $("#speed").addEventListener("change", (event) => {
      state.speed = Number(event.target.value);
      syncVideo();
    });
    $("#follow").addEventListener("change", (event) => player?.setFollow(event.target.checked));
    const groups = { views: setView, styles: setStyle };
    for (const [group, set] of Object.entries(groups)) {
      document.querySelectorAll(`#${group} button`).forEach((button) => {
        button.addEventListener("click", () => set(button.value));
      });
    }
    $("#closer").addEventListener("click", () => timeline.zoom(0.5));
    $("#further").addEventListener("click", () => timeline.zoom(2));
    $("#whole").addEventListener("click", () => {
      timeline.all();
      timeline.redraw();
    });
    // A button that the mouse pressed does not keep the space bar for itself.
    document.addEventListener("pointerup", (event) => event.target.closest?.("button")?.blur());
    document.addEventListener("keydown", key);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      player?.setTheme();
      timeline.redraw();
    });
    video?.addEventListener("loadedmetadata", syncVideo);
    video?.addEventListener("pause", restVideo);
    video?.addEventListener("error", () => $("#video").classList.add("broken"));
  }

  function step(frames) {
    play(false);
    seek(state.frame + frames);
  }

  function key(event) {
    const place = event.target.closest?.("input, select, button, a, video");
    const elsewhere = place && place.type !== "range" && event.key === " ";
    if (elsewhere || place?.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const far = event.shiftKey ? 10 : 1;
    const acts = {
      " ": () => play(!state.playing),
      ArrowLeft: () => step(-far),
      ArrowRight: () => step(far),
      Home: () => step(-Infinity),
      End: () => step(Infinity),
      1: () => setView("camera"),
      2: () => setView("free"),
      3: () => setView("top"),
      m: () => setStyle({ mesh: "skeleton", skeleton: "both", both: "mesh" }[state.style]),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function start() {
    buildLegend();
    timeline = new Timeline($("#timeline canvas"), scene, (frame) => seek(frame));
    try {
      player = new Player($("#stage"), scene, () => {
        state.view = "free";
        choose("views", "free");
      });
      $("#follow").checked = player.follow;
    } catch (error) {
      console.warn(error);
      $("#no3d").hidden = false;
    }
    listen();
    $("#scrub").max = Math.max(0, last);
    $("#nobody").textContent = scene.people.length ? "Nobody in this frame" : "Nobody was found";
    const first = scene.people.reduce((low, person) => Math.min(low, person.frames[0]), last);
    if (last < 0) {
      document.querySelectorAll("#controls :is(button, input)").forEach((e) => (e.disabled = true));
      $("#nobody").hidden = false;
    } else {
      seek(scene.people.length ? first : 0);
    }
    // For tests and for those who look from the console.
    window.flowhmrReport = {
      seek,
      play,
      setView,
      setStyle,
      setShown,
      state: () => ({ ...state, frames: last + 1, people: scene.people.length, threeD: !!player }),
      jointsPx: (index) => player?.jointsPx(index) ?? null,
      imageRect: () => player?.imageRect() ?? null,
    };
  }

  start();
})();
