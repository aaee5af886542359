/* The worker as a function: `ask(task, file)` gives a promise of its answer. */

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const open = new Map();
let asked = 0;

worker.onmessage = ({ data: { id, progress, error, ...found } }) => {
  const { resolve, reject, onProgress } = open.get(id);
  if (progress !== undefined) {
    onProgress(progress);
    return;
  }
  open.delete(id);
  if (error) reject(new Error(error));
  else resolve(found);
};

worker.onerror = (event) => {
  for (const { reject } of open.values()) {
    reject(new Error(event.message || "a file of this page is missing; export it again"));
  }
  open.clear();
};

/**
 * @param {"open" | "score" | "look" | "occlude"} task See `worker.js`.
 * @param {File} [file] The picture.
 * @param {(share: number) => void} [onProgress] Is told the share that is done.
 */
export function ask(task, file, onProgress = () => {}) {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    open.set(id, { resolve, reject, onProgress });
    worker.postMessage({ id, task, file });
  });
}
