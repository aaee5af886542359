/* The results as the CSV that `atd.score` writes, which no spreadsheet runs as a formula. */

const FORMULA = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/;
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu; // what a terminal or an editor may act upon

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
  const plain = text.replace(HIDDEN, escaped);
  return FORMULA.test(plain) ? prefix + plain : plain;
}

/** A character as Python writes it: \n, \x7f, \u202e. */
function escaped(character) {
  const code = character.codePointAt(0);
  const short = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
  const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return short ?? `\\${letter}${code.toString(16).padStart(digits, "0")}`;
}

function quoted(value) {
  return /[",]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
