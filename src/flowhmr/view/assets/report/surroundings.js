// What stands around the people: the ground's grid and the video's camera.
"use strict";

// Lines a metre apart that fade outwards, in pieces of a metre: long lines that pass the camera
// are lost by some drivers.
function gridOf(reach) {
  const points = [];
  for (let across = -reach; across <= reach; across++) {
    for (let along = -reach; along < reach; along++) {
      points.push(across, 0, along, across, 0, along + 1);
      points.push(along, 0, across, along + 1, 0, across);
    }
  }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(points), 3));
  const colours = new Float32Array((points.length / 3) * 4);
  geometry.setAttribute("color", new THREE.BufferAttribute(colours, 4));
  const material = new THREE.LineBasicMaterial({ vertexColors: true, transparent: true });
  return new THREE.LineSegments(geometry, material);
}

function paintGrid(grid, reach, line) {
  const places = grid.geometry.getAttribute("position");
  const colours = grid.geometry.getAttribute("color");
  for (let i = 0; i < places.count; i++) {
    const away = Math.hypot(places.getX(i), places.getZ(i)) / reach;
    colours.setXYZW(i, line.r, line.g, line.b, Math.max(0, Math.min(1, 1.6 * (1 - away))));
  }
  colours.needsUpdate = true;
}

// The video's camera as a pyramid, half a metre deep.
function cameraGizmo(scene, worldFromCamera) {
  const { size_px: [width, height], focal_px: f, centre_px: [cx, cy] } = scene;
  const depth = 0.5;
  const corner = (u, v) => [(depth * (u - cx)) / f, (depth * (v - cy)) / f, depth];
  const ring = [corner(0, 0), corner(width, 0), corner(width, height), corner(0, height)];
  const points = [];
  ring.forEach((here, i) => points.push(0, 0, 0, ...here, ...here, ...ring[(i + 1) % 4]));
  const roof = [(ring[0][0] + ring[1][0]) / 2, ring[0][1] - 0.12 * depth, depth];
  points.push(...ring[0], ...roof, ...roof, ...ring[1]);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(points), 3));
  const gizmo = new THREE.LineSegments(geometry, new THREE.LineBasicMaterial());
  gizmo.matrixAutoUpdate = false;
  gizmo.matrix.copy(worldFromCamera);
  return gizmo;
}
