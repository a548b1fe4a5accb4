// The 3D part of the report: bodies skinned by three.js, seen by the video's camera or freely.
// Axes of the page's world are level: Y up, the ground at y = 0, metres. Data are in camera axes
// (X right, Y down, Z away); `worldFromCamera` carries one into the other.
"use strict";

class Player {
  static SEEN_BY_THREE = new THREE.Matrix4().makeScale(1, -1, -1); // three's camera looks along -z
  static FREE_FOV_DEG = 40;
  static PATH_S = 4;

  constructor(stage, scene, onFree) {
    this.stage = stage;
    this.scene = scene;
    this.onFree = onFree;
    this.view = "camera";
    this.style = "mesh";
    this.follow = false;
    this.frame = 0;
    this.renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
    this.renderer.shadowMap.enabled = true;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    this.canvas = this.renderer.domElement;
    stage.prepend(this.canvas);

    this.worldFromCamera = new THREE.Matrix4().set(...scene.world_from_camera, 0, 0, 0, 1);
    this.three = new THREE.Scene();
    this.inCamera = new THREE.Group();
    this.inCamera.matrixAutoUpdate = false;
    this.inCamera.matrix.copy(this.worldFromCamera);
    this.three.add(this.inCamera);
    this.measure();
    this.videoCamera = new THREE.PerspectiveCamera();
    this.videoCamera.matrixAutoUpdate = false;
    this.videoCamera.matrix.copy(this.worldFromCamera).multiply(Player.SEEN_BY_THREE);
    this.freeCamera = new THREE.PerspectiveCamera(Player.FREE_FOV_DEG, 1, 0.05, 1000);
    this.three.updateMatrixWorld(true);
    this.videoCamera.updateMatrixWorld(true);
    this.people = scene.people.map((person) => this.addPerson(person));
    this.addSurroundings();
    this.controls = new THREE.OrbitControls(this.freeCamera, this.canvas);
    this.controls.maxPolarAngle = Math.PI * 0.62;
    this.controls.minDistance = 0.4;
    this.controls.addEventListener("start", () => this.leavePreset());
    this.controls.addEventListener("change", () => this.needsRender());
    this.setTheme();
    this.setView("camera");
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  // Where everybody is during the video: what the free views must hold.
  measure() {
    const low = new THREE.Vector3(Infinity, 0, Infinity);
    const high = new THREE.Vector3(-Infinity, 0, -Infinity);
    const spot = new THREE.Vector3();
    for (const person of this.scene.people) {
      for (let row = 0; row < person.frames.length; row++) {
        this.pelvis(person, row, spot);
        low.min(spot);
        high.max(spot);
      }
    }
    const anybody = low.x <= high.x;
    this.centre = anybody ? low.clone().add(high).multiplyScalar(0.5) : new THREE.Vector3(0, 0, 0);
    this.centre.y = 0.9;
    this.radius = anybody ? Math.hypot(high.x - low.x, high.z - low.z) / 2 + 1.2 : 2;
    this.follow = this.radius > 4;
  }

  pelvis(person, row, out) {
    const root = person.rest_joints_m;
    out.fromArray(person.translation_m, 3 * row);
    out.set(out.x + root[0], out.y + root[1], out.z + root[2]);
    return out.applyMatrix4(this.worldFromCamera);
  }

  addPerson(person) {
    const { body } = this.scene;
    const colour = new THREE.Color(person.colour);
    const geometry = new THREE.BufferGeometry();
    geometry.setIndex(new THREE.BufferAttribute(body.faces, 1));
    geometry.setAttribute("position", new THREE.BufferAttribute(person.verts_m, 3));
    geometry.setAttribute("skinIndex", new THREE.BufferAttribute(body.bones, 4));
    geometry.setAttribute("skinWeight", new THREE.BufferAttribute(body.weights, 4, true));
    geometry.computeVertexNormals();
    const material = new THREE.MeshStandardMaterial({ color: colour, roughness: 0.72 });
    const mesh = new THREE.SkinnedMesh(geometry, material);
    mesh.frustumCulled = false;
    mesh.castShadow = true;
    mesh.receiveShadow = true;
    const bones = this.bonesOf(person);
    mesh.add(bones[0]);
    mesh.updateMatrixWorld(true);
    mesh.bind(new THREE.Skeleton(bones), new THREE.Matrix4());
    this.inCamera.add(mesh);

    const solid = new THREE.MeshStandardMaterial({ color: colour, roughness: 0.5 });
    const balls = new THREE.InstancedMesh(new THREE.SphereGeometry(0.024, 16, 12), solid, bones.length);
    const stick = new THREE.CylinderGeometry(0.013, 0.013, 1, 12).translate(0, 0.5, 0);
    const sticks = new THREE.InstancedMesh(stick, solid, bones.length - 1);
    for (const part of [balls, sticks]) {
      part.frustumCulled = false;
      part.castShadow = true;
      this.three.add(part);
    }
    const { rows } = person;
    return { person, mesh, bones, balls, sticks, rows, shown: true, ...this.pathOf(person) };
  }

  bonesOf(person) {
    const joints = person.rest_joints_m;
    const { parents } = this.scene.body;
    const bones = parents.map(() => new THREE.Bone());
    parents.forEach((parent, j) => {
      const above = parent < 0 ? [0, 0, 0] : joints.slice(3 * parent, 3 * parent + 3);
      bones[j].position.set(
        joints[3 * j] - above[0], joints[3 * j + 1] - above[1], joints[3 * j + 2] - above[2],
      );
      if (parent >= 0) bones[parent].add(bones[j]);
    });
    return bones;
  }

  // The way along the ground, broken where the person is missing; `segments` says how many pieces
  // lie before each row.
  pathOf(person) {
    const points = [];
    const segments = new Int32Array(person.frames.length);
    const spot = new THREE.Vector3();
    for (let row = 1; row < person.frames.length; row++) {
      if (person.frames[row] === person.frames[row - 1] + 1) {
        for (const r of [row - 1, row]) {
          this.pelvis(person, r, spot);
          points.push(spot.x, 0.004, spot.z);
        }
      }
      segments[row] = points.length / 6;
    }
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(points), 3));
    const material = new THREE.LineBasicMaterial({ color: person.colour, transparent: true, opacity: 0.6 });
    const path = new THREE.LineSegments(geometry, material);
    path.frustumCulled = false;
    this.three.add(path);
    return { path, segments };
  }

  // A few seconds of it, before and after now.
  cutPath({ person, path, segments, shown }) {
    path.visible = shown;
    const now = this.scene.times_s[this.frame];
    const first = rowAfter(person.frames, frameAt(this.scene.times_s, now - Player.PATH_S));
    const last = rowAfter(person.frames, frameAt(this.scene.times_s, now + Player.PATH_S));
    const start = segments[Math.min(first, segments.length - 1)];
    const end = segments[Math.min(last, segments.length - 1)];
    path.geometry.setDrawRange(2 * start, 2 * (end - start));
  }

  addSurroundings() {
    this.sky = new THREE.HemisphereLight(0xffffff, 0x8a8f99, 1.6);
    this.sun = new THREE.DirectionalLight(0xffffff, 2.1);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.set(1024, 1024);
    this.sun.shadow.bias = -0.0005;
    this.sun.shadow.normalBias = 0.02;
    const reach = this.sun.shadow.camera;
    [reach.left, reach.right, reach.top, reach.bottom] = [-4, 4, 4, -4];
    [reach.near, reach.far] = [0.5, 20];
    this.gridReach = Math.min(60, Math.ceil(this.radius + 6));
    this.grid = gridOf(this.gridReach);
    this.grid.position.set(Math.round(this.centre.x), 0, Math.round(this.centre.z));
    const size = 2 * this.gridReach;
    const catcher = new THREE.ShadowMaterial({ opacity: 0.22 });
    this.floor = new THREE.Mesh(new THREE.PlaneGeometry(size, size).rotateX(-Math.PI / 2), catcher);
    this.floor.position.set(this.grid.position.x, -0.001, this.grid.position.z);
    this.floor.receiveShadow = true;
    this.gizmo = cameraGizmo(this.scene, this.worldFromCamera);
    this.three.add(this.sky, this.sun, this.sun.target, this.grid, this.floor, this.gizmo);
  }

  setTheme() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => new THREE.Color(css.getPropertyValue(name).trim());
    this.renderer.setClearColor(colour("--stage"));
    this.gizmo.material.color.copy(colour("--muted"));
    paintGrid(this.grid, this.gridReach, colour("--grid"));
    this.needsRender();
  }

  setView(view) {
    this.view = view;
    const target = view === "camera" ? this.centre : this.target();
    if (view === "camera") this.poseAsVideo();
    if (view === "free") this.poseFree(target);
    if (view === "top") this.poseTop(target);
    this.gizmo.visible = view !== "camera";
    this.frameOutline();
    this.needsRender();
  }

  target() {
    return this.follow ? this.crowd(this.frame) || this.centre : this.centre;
  }

  // Once the mouse turns it, a preset is the free view, from where it stood.
  leavePreset() {
    if (this.view === "free") return;
    this.view = "free";
    this.gizmo.visible = true;
    this.frameOutline();
    this.onFree();
  }

  poseAsVideo() {
    const axes = [new THREE.Vector3(), new THREE.Vector3(), new THREE.Vector3()];
    this.videoCamera.matrix.extractBasis(...axes);
    const forward = axes[2].negate();
    const eye = new THREE.Vector3().setFromMatrixPosition(this.videoCamera.matrix);
    const distance = Math.max(1, this.target().clone().sub(eye).dot(forward));
    const { size_px: [, height], focal_px } = this.scene;
    this.pose(eye, eye.clone().addScaledVector(forward, distance));
    this.freeCamera.fov = (360 / Math.PI) * Math.atan(height / 2 / focal_px);
    this.freeCamera.updateProjectionMatrix();
  }

  poseFree(target) {
    const eye = new THREE.Vector3().setFromMatrixPosition(this.videoCamera.matrix);
    const toward = eye.sub(target).setY(0);
    if (toward.length() < 1e-3) toward.set(0, 0, 1);
    toward.normalize().applyAxisAngle(new THREE.Vector3(0, 1, 0), 0.65);
    toward.setY(0.38).normalize();
    // People in full height, and all their ways across, of which the half lies nearer.
    const [radius, half] = [this.follow ? 1.6 : this.radius, this.halfView()];
    const distance = Math.max(1.25, radius / this.freeCamera.aspect) / half + radius / 2;
    this.pose(target.clone().addScaledVector(toward, distance), target);
  }

  poseTop(target) {
    const radius = (this.follow ? 2.2 : this.radius) / Math.min(1, this.freeCamera.aspect);
    const above = new THREE.Vector3(0, 1, 1e-3).normalize();
    this.pose(target.clone().addScaledVector(above, (1.1 * radius) / this.halfView() + 1), target);
  }

  halfView() {
    this.freeCamera.fov = Player.FREE_FOV_DEG;
    this.freeCamera.updateProjectionMatrix();
    return Math.tan((this.freeCamera.fov * Math.PI) / 360);
  }

  pose(eye, target) {
    this.freeCamera.position.copy(eye);
    this.controls.target.copy(target);
    this.followed = this.crowd(this.frame);
    this.controls.update();
  }

  setFollow(follow) {
    this.follow = follow;
    if (this.view !== "camera") this.setView(this.view);
    this.needsRender();
  }

  setStyle(style) {
    this.style = style;
    for (const one of this.people) {
      const { material } = one.mesh;
      material.transparent = style === "both";
      material.opacity = style === "both" ? 0.42 : 1;
      material.depthWrite = style !== "both";
      material.needsUpdate = true;
    }
    this.show(this.frame);
  }

  setShown(index, shown) {
    this.people[index].shown = shown;
    this.show(this.frame);
  }

  // The middle of those who are seen, on the ground's height of a pelvis; null for nobody.
  crowd(frame) {
    const sum = new THREE.Vector3();
    const spot = new THREE.Vector3();
    let count = 0;
    for (const { person, rows, shown } of this.people) {
      if (!shown || !(rows[frame] >= 0)) continue;
      sum.add(this.pelvis(person, rows[frame], spot));
      count++;
    }
    return count ? sum.divideScalar(count).setY(0.9) : null;
  }

  show(frame) {
    this.frame = frame;
    for (const one of this.people) this.posePerson(one, one.shown ? one.rows[frame] : -1);
    const crowd = this.crowd(frame);
    if (this.follow && this.view !== "camera" && crowd) {
      const moved = crowd.clone().sub(this.followed || this.controls.target);
      this.controls.target.add(moved);
      this.freeCamera.position.add(moved);
      this.controls.update();
    }
    if (crowd) this.followed = crowd;
    this.sun.target.position.copy(crowd || this.centre);
    this.sun.position.copy(this.sun.target.position).add(new THREE.Vector3(2.2, 6, 3.2));
    this.needsRender();
  }

  posePerson(one, row) {
    const { person, mesh, bones, balls, sticks } = one;
    const seen = row >= 0;
    mesh.visible = seen && this.style !== "skeleton";
    balls.visible = sticks.visible = seen && this.style !== "mesh";
    this.cutPath(one);
    if (!seen) return;
    bones.forEach((bone, j) => bone.quaternion.fromArray(person.rotations, 4 * (24 * row + j)));
    mesh.position.fromArray(person.translation_m, 3 * row);
    this.inCamera.updateMatrixWorld(true);
    const at = bones.map((bone) => new THREE.Vector3().setFromMatrixPosition(bone.matrixWorld));
    one.joints = at;
    const matrix = new THREE.Matrix4();
    const turn = new THREE.Quaternion();
    const up = new THREE.Vector3(0, 1, 0);
    at.forEach((point, j) => balls.setMatrixAt(j, matrix.makeTranslation(point.x, point.y, point.z)));
    for (let j = 1; j < at.length; j++) {
      const start = at[this.scene.body.parents[j]];
      const along = at[j].clone().sub(start);
      const length = along.length();
      turn.setFromUnitVectors(up, along.divideScalar(length || 1));
      sticks.setMatrixAt(j - 1, matrix.compose(start, turn, new THREE.Vector3(1, length, 1)));
    }
    balls.instanceMatrix.needsUpdate = sticks.instanceMatrix.needsUpdate = true;
  }

  // Where the video's image lies on the canvas, CSS pixels.
  imageRect() {
    const { size_px: [width, height] } = this.scene;
    const zoom = Math.min(this.width / width, this.height / height);
    return { zoom, x: (this.width - zoom * width) / 2, y: (this.height - zoom * height) / 2 };
  }

  frameOutline() {
    const outline = this.stage.querySelector(".outline");
    const { zoom, x, y } = this.imageRect();
    outline.hidden = this.view !== "camera";
    const { size_px: [width, height] } = this.scene;
    Object.assign(outline.style, {
      left: `${x}px`, top: `${y}px`, width: `${zoom * width}px`, height: `${zoom * height}px`,
    });
  }

  resize() {
    this.width = Math.max(1, this.stage.clientWidth);
    this.height = Math.max(1, this.stage.clientHeight);
    this.renderer.setSize(this.width, this.height, false);
    this.freeCamera.aspect = this.width / this.height;
    this.freeCamera.updateProjectionMatrix();
    this.projectAsVideo();
    this.frameOutline();
    this.needsRender();
  }

  // The pinhole of the video, widened to the canvas around its image.
  projectAsVideo() {
    const { focal_px: f, centre_px: [cx, cy] } = this.scene;
    const { zoom, x, y } = this.imageRect();
    const near = 0.05;
    const scale = near / f;
    const left = scale * (-x / zoom - cx);
    const right = scale * ((this.width - x) / zoom - cx);
    const top = -scale * (-y / zoom - cy);
    const bottom = -scale * ((this.height - y) / zoom - cy);
    this.videoCamera.projectionMatrix.makePerspective(left, right, top, bottom, near, 1000);
    this.videoCamera.projectionMatrixInverse.copy(this.videoCamera.projectionMatrix).invert();
  }

  camera() {
    return this.view === "camera" ? this.videoCamera : this.freeCamera;
  }

  needsRender() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => this.render());
  }

  render() {
    this.queued = false;
    this.renderer.render(this.three, this.camera());
  }

  // Joints of a shown person in pixels of the video's image, as the video's camera sees them.
  jointsPx(index) {
    const one = this.people[index];
    if (!one || !one.shown || !(one.rows[this.frame] >= 0)) return null;
    const { zoom, x, y } = this.imageRect();
    this.videoCamera.updateMatrixWorld(true);
    return one.joints.map((joint) => {
      const ndc = joint.clone().project(this.videoCamera);
      const [u, v] = [((ndc.x + 1) / 2) * this.width, ((1 - ndc.y) / 2) * this.height];
      return [(u - x) / zoom, (v - y) / zoom];
    });
  }
}
