// What the report's player takes from three.js; THREE.md says how it becomes three.min.js.
export {
  Bone, BufferAttribute, BufferGeometry, Color, CylinderGeometry, DirectionalLight, Group, HemisphereLight,
  InstancedMesh, LineBasicMaterial, LineSegments, Matrix4, Mesh,
  MeshStandardMaterial, PerspectiveCamera, PlaneGeometry, Quaternion, REVISION, Scene,
  ShadowMaterial, Skeleton, SkinnedMesh, SphereGeometry, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
