/* The results as the CSV that `atd.score` writes, which no spreadsheet runs as a formula. */

const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20]/;

/**
 * @param {{path: string, score?: number, error?: string}[]} pictures Those that wait are left out.
 * @param {number | null} threshold
 * @returns {string} Columns path, score, is_ood, error. A picture without a score is never taken
 *   for in-distribution: its `is_ood` is true.
 */
export function asCsv(pictures, threshold) {
  const done = pictures.filter(({ score, error }) => error || score !== undefined);
  const rows = done.map(({ path, score, error }) => [
    shown(path, "./"),
    error ? "" : String(Number(score.toPrecision(9))), // float32, exactly
    error ? "true" : threshold === null ? "" : String(score > threshold),
    shown(error ?? "", "'"),
  ]);
  const lines = [["path", "score", "is_ood", "error"], ...rows].map((row) =>
    row.map(quoted).join(","),
  );
  return lines.map((line) => `${line}\n`).join("");
}

function shown(text, prefix) {
  const plain = text.replace(
    /[\u0000-\u001f\u007f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return FORMULA.test(plain) ? prefix + plain : plain;
}

function quoted(value) {
  return /[",]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
