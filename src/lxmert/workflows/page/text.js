// Tokenizes questions as BERT does: the rules of a `tokenizer.json` of WordPiece.

const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/u;
const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\uf900-\ufaff]/u;

/** Return {ids, unknown}: token ids with [CLS] and [SEP], and the words that have no token. */
export function tokenize(text, tokenizer, longest) {
  const { vocab, unk_token: none, continuing_subword_prefix: prefix } = tokenizer.model;
  const ids = [], unknown = [];
  for (const word of split(text, tokenizer.normalizer)) {
    const pieces = splitWord(word, vocab, prefix, tokenizer.model.max_input_chars_per_word);
    ids.push(...(pieces ?? [vocab[none]]));
    if (!pieces) unknown.push(word);
  }
  return { ids: [vocab["[CLS]"], ...ids.slice(0, longest - 2), vocab["[SEP]"]], unknown };
}

/** Return the words and punctuation marks of a text, normalized. */
function split(text, { lowercase, strip_accents: strip }) {
  let clean = text.replace(/[\0\ufffd]|(?![\t\n\r])\p{C}/gu, "").replace(/\s/gu, " ");
  clean = [...clean].map((sign) => (CHINESE.test(sign) ? ` ${sign} ` : sign)).join("");
  if (strip ?? lowercase) clean = clean.normalize("NFD").replace(/\p{Mn}/gu, "");
  if (lowercase) clean = clean.toLowerCase();
  const spaced = [...clean].map((sign) => (PUNCTUATION.test(sign) ? ` ${sign} ` : sign)).join("");
  return spaced.split(" ").filter((word) => word);
}

/** Return the ids of the longest pieces of a word, from its start; null if there are none. */
function splitWord(word, vocab, prefix, most) {
  const signs = [...word], ids = [];
  if (signs.length > most) return null;
  for (let start = 0; start < signs.length;) {
    let end = signs.length, id;
    for (; end > start; end--) {
      id = vocab[(start ? prefix : "") + signs.slice(start, end).join("")];
      if (id !== undefined) break;
    }
    if (end === start) return null;
    ids.push(id);
    start = end;
  }
  return ids;
}
