/* The pictures that somebody dropped or chose, in the order that `atd.score` takes: as given, and of
 * a folder its own files first, sorted, then its subfolders. */

const ENDINGS =
  /\.(avifs?|bmp|dib|gif|hei[cf]|jfif|jpe?g?|jp2|j2k|jpx|mpo|pcx|p[bgnp]m|png|apng|sgi|tga|tiff?|webp)$/i;

/**
 * Files of a drop, with those in folders.
 * @param {DataTransfer} transfer
 * @returns {Promise<{pictures: {path: string, file: File}[], others: string[]}>} `others`: paths of
 *   what folders hold besides pictures. A file that was dropped itself is taken for a picture.
 */
export async function dropped(transfer) {
  // Entries have to be taken before the first await, after which the browser empties the list.
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.() ?? null);
  const files = Array.from(transfer.files);
  if (!entries.some((entry) => entry?.isDirectory)) return chosen(files);
  const found = { pictures: [], others: [] };
  for (const entry of entries.filter(Boolean)) await walk(entry, found, true);
  return found;
}

/**
 * Files of a file chooser.
 * @param {Iterable<File>} files Those of a folder carry their path.
 * @returns {{pictures: {path: string, file: File}[], others: string[]}} As `dropped`.
 */
export function chosen(files) {
  const all = Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, file }));
  if (!all.some(({ path }) => path.includes("/"))) return { pictures: all, others: [] };
  all.sort((one, other) => byPlace(one.path, other.path));
  return {
    pictures: all.filter(({ path }) => ENDINGS.test(path)),
    others: all.filter(({ path }) => !ENDINGS.test(path)).map(({ path }) => path),
  };
}

async function walk(entry, found, given) {
  const path = entry.fullPath.slice(1);
  if (entry.isFile) {
    if (!given && !ENDINGS.test(path)) found.others.push(path);
    else found.pictures.push({ path, file: await fileOf(entry) });
    return;
  }
  const children = await childrenOf(entry);
  children.sort(
    (one, other) => one.isDirectory - other.isDirectory || compare(one.name, other.name),
  );
  for (const child of children) await walk(child, found, false);
}

/** A file that cannot be opened becomes one whose reading fails, and so a row with an error. */
function fileOf(entry) {
  return new Promise((resolve) => entry.file(resolve, () => resolve(new File([], entry.name))));
}

/** A reader gives a hundred entries at a time, and none at the end. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return children;
    children.push(...some);
  }
}

/** Files of a folder before its subfolders, each sorted. */
function byPlace(one, other) {
  const [left, right] = [one.split("/"), other.split("/")];
  let depth = 0;
  while (left[depth] === right[depth] && depth < Math.min(left.length, right.length) - 1) depth++;
  const folders = (left.length > depth + 1) - (right.length > depth + 1);
  return folders || compare(left[depth], right[depth]);
}

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}
