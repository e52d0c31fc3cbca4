#!/usr/bin/env python3
"""Writes tests/golden/tokenizer: small tokenizers, texts, and the ids that Hugging Face gives them.

    python3 -m venv venv && venv/bin/pip install tokenizers sentencepiece
    venv/bin/python tests/golden/make_tokenizer_golden.py

bases/*.json     two tokenizer.json files, trained here
cases.json       variants of them (a JSON merge patch each) and the ids of the corpus under each
corpus.json      the texts
tiny-llama.json  ids by examples/tiny-llama, and SHA-256 of the id streams of examples/*.txt
*.model          SentencePiece models trained here, their ids in sentencepiece.json
The merges of the bases cross words on purpose: where a text is cut shows in its ids.
"""

import hashlib
import json
import pathlib
import random
import re
import struct

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tokenizer"
EXAMPLES = HERE.parent.parent / "examples"

# ---- texts ---------------------------------------------------------------------------------------------------

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    " \n \n",
    "a",
    "Hello, world!",
    " Hello world",
    "  two  spaces   three    four ",
    "trailing spaces   ",
    "line one\nline two\n\nline four\n",
    "dos line\r\nanother\r\n\r\n  indented\r\n",
    "tabs\tand\t\tmore\t \t mixed",
    "a\u00a0b\u2003c\u2009d\u3000e\u0085f\u2028g\u180eh\u200bi",
    "I'm you're he's we've they'll I'd don't I'M YOU'RE HE'S WE'VE THEY'LL I'D DON'T 'Twas ' s' 's'",
    "it\u2019s \u2018quoted\u2019 'S 'Re 'vE 'lL '\u017f o'clock rock'n'roll",
    "0 1 12 123 1234 12345 123456 1234567 3.14159 1,000,000 2024-01-31 0xFF 1e-9",
    "\u00b2\u00b3\u00bd \u2167 \u0661\u0662\u0663 \u0967\u0968 \uff11\uff12 \u2460 \u3007",
    "naïve café déjà vu Ångström Straße STRASSE ſ K İstanbul ıI",
    "nai\u0308ve cafe\u0301 A\u030angstro\u0308m e\u0323\u0302 \u1ec7 q\u0307\u0323",
    "ﬁ ﬂ ﬃ ½ ① Å Ω ㎏ ＡＢＣ ｶﾞ 한국어 \u1112\u1161\u11ab",
    "日本語のテキスト、漢字とカタカナとひらがな。",
    "中文文本，没有空格。第12章",
    "한국어 텍스트입니다.",
    "ไทยภาษา हिन्दी বাংলা தமிழ் ខ្មែរ",
    "עברית שלום العربية مرحبا ١٢٣ \u200fRTL\u200e",
    "Русский текст Ελληνικά σίγμα ΣΊΓΜΑΣ ქართული Հայերեն",
    "👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☺ 1️⃣",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠀀𠀁 \U0010ffff \ufffd \ufeffBOM",
    "Z\u0351\u036b\u0343a\u0334\u0321l\u035cg\u0310o\u0321",
    "def f(x: int) -> str:\n    if x >= 10:\n        return f\"{x!r}\"\n    # comment\n\treturn None\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.5f; }  // C++\n",
    "<html><body class=\"x\">&amp;&nbsp;</body></html>",
    "https://example.org/path?q=1&r=%20#frag user@example.org C:\\dir\\file.txt",
    "!!! ??? ... --- *** ___ ((())) [[]] {} $$ ## @@ ~~ `` ^^ || \\\\ // ;; :: \"\"",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case HTTPServer2 iPhone14Pro",
    "a\x00b\x01c\x7fd\x1b[0m",
    "\u2581already \u2581\u2581meta\u2581space \u2581",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                        x",
    "\n\n\n\n\n\n\n\n  \n\n",
    "the the the The THE tHe",
    "<|end_of_text|>",
    "<|end_of_text|><|end_of_text|>",
    "before<|end_of_text|>after  <|end_of_text|>  spaced <|end_of_text|",
    "<s> a </s> <unk> <0x41> <pad>",
    "x<s>y</s>z<s>",
    " <mask> in the  <mask>  middle\n<mask>\nof",
    "<mask><mask>a<mask> <mask>",
    "solo word soloist asolo solo, solo\u0301 (solo) _solo solo_ 1solo \u00e9solo solo\u200d",
    "MiXeD Tag mixed tag MIXED TAG mIxEd  tAg",
    "caf\u00e9tok cafe\u0301tok CAF\u00c9TOK",
    "<<end>> <end>> <<end> <<<end>>>> <end <e",
    "\u1e9b\u0323 \u212b \u2126 \u00c5 \ufb01 \u0344 \u0958",
    "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:",
]

FRAGMENTS = [
    " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "a", "B", "the", "'s", "'LL", "'", "7", "42", "1000", ".", "...",
    "!?", "é", "e\u0301", "ß", "日本", "カ", "한", "ع", "ש", "👍🏽", "\u200d", "_", "-", "/", "<s>", "</s>",
    "<|end_of_text|>", "<mask>", "solo", "Tag", "mixed tag", "<end>", "<<end>>", "▁", "Ω", "½", "Ⅷ", "\u0301", "word",
    "  word", "CamelCase", "x" * 20,
]


def random_texts(count, seed):
    rng = random.Random(seed)
    return ["".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 14))) for _ in range(count)]


CORPUS = TEXTS + random_texts(30, seed=1)


def training_lines():
    sample = (EXAMPLES / "shakespeare-calibration.txt").read_text(encoding="utf-8")[:60000]
    return sample.splitlines() + [text for text in TEXTS if "\ufffd" not in text] * 3


# ---- the two bases -------------------------------------------------------------------------------------------


def finish(tokenizer, added=()):
    base = json.loads(tokenizer.to_str())
    base["decoder"] = base["post_processor"] = None
    base["added_tokens"] = list(added)
    return base


def token(number, content, **flags):
    entry = {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}
    return entry | flags


def numbered(base, contents):
    """Added tokens with the ids that Hugging Face assigns: the vocabulary's, or the next free one."""
    vocab = dict(base["model"]["vocab"])
    return [token(vocab.setdefault(content, len(vocab)), content) for content in contents]


def byte_level_base():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator(training_lines(), trainer)
    base = finish(tokenizer)
    base["pre_tokenizer"] = None  # each variant has its own
    return base


def metaspace_base():
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(vocab_size=750, special_tokens=special, max_token_length=8,
                                  show_progress=False)
    lines = [line for line in training_lines() if all(ord(character) < 0x500 for character in line)]
    tokenizer.train_from_iterator(lines, trainer)  # the rest of the corpus has unknown characters to offer
    base = finish(tokenizer, [token(i, special[i], special=True) for i in range(3)])
    base["normalizer"] = None
    return base


# ---- variants ------------------------------------------------------------------------------------------------

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
          r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
         rf"{CONTRACTIONS}?" + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def regex_split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def string_split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"String": pattern}, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def normalizer_sequence(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


def variants(bases):
    """(name, base, patch, whether for all of the corpus)"""
    byte_size = len(bases["byte_level"]["model"]["vocab"])
    end = [token(byte_size, "<|end_of_text|>", special=True)]
    flags = [
        token(byte_size, "<|end_of_text|>", special=True),
        token(byte_size + 1, "<mask>", lstrip=True, special=True),
        token(byte_size + 2, "solo", single_word=True),
        token(byte_size + 3, "Mixed Tag", normalized=True),
        token(byte_size + 4, "<end>", rstrip=True),
        token(byte_size + 5, "<<end>>"),
        token(byte_size + 6, "caf\u00e9tok", normalized=True),
    ]
    merges_as_text = [" ".join(pair) for pair in bases["byte_level"]["model"]["merges"]]

    yield "gpt2", "byte_level", {"pre_tokenizer": byte_level(regex=True), "added_tokens": end}, True
    yield "gpt2 of 2019", "byte_level", {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}, "added_tokens": end,
        "model": {"type": None, "unk_token": "", "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "merges": ["#version: 0.2"] + merges_as_text}}, True
    yield "qwen2", "byte_level", {
        "normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(regex_split(QWEN2), byte_level()),
        "added_tokens": end}, True
    yield "llama3", "byte_level", {
        "pre_tokenizer": sequence(regex_split(LLAMA3), byte_level()), "added_tokens": end,
        "model": {"ignore_merges": True}}, True
    yield "cl100k", "byte_level", {"pre_tokenizer": sequence(regex_split(CL100K), byte_level())}, True
    yield "cl100k, removed and inverted", "byte_level", {
        "pre_tokenizer": sequence(regex_split(CL100K, "Removed", True), byte_level())}, True
    yield "o200k", "byte_level", {"pre_tokenizer": sequence(regex_split(O200K), byte_level())}, True
    yield "deepseek", "byte_level", {
        "pre_tokenizer": sequence(regex_split(r"\p{N}{1,3}"), regex_split("[一-龥\u3040-ゟ゠-ヿ]+"),
                                  regex_split(DEEPSEEK), byte_level())}, True
    yield "starcoder", "byte_level", {
        "pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level(regex=True))}, True
    yield "digits, together", "byte_level", {
        "pre_tokenizer": sequence(byte_level(), {"type": "Digits", "individual_digits": False})}, True
    yield "added tokens", "byte_level", {"pre_tokenizer": byte_level(prefix=True), "added_tokens": flags}, True
    yield "added tokens, normalized", "byte_level", {
        "normalizer": normalizer_sequence({"type": "NFD"}, {"type": "Lowercase"}),
        "pre_tokenizer": byte_level(prefix=True), "added_tokens": flags}, True

    prepend = {"type": "Prepend", "prepend": "\u2581"}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    yield "llama2", "metaspace", {"normalizer": normalizer_sequence(prepend, spaces)}, True
    yield "gemma", "metaspace", {
        "normalizer": spaces, "pre_tokenizer": string_split(" ", "MergedWithPrevious"),
        "added_tokens": bases["metaspace"]["added_tokens"] + numbered(
            bases["metaspace"], ["\n\n", "\n\n\n", "\u2581\u2581", "<mask>", "  "])}, True

    def metaspace(scheme, split):
        return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
    yield "metaspace, first, whole", "metaspace", {"pre_tokenizer": metaspace("first", False)}, True
    yield "metaspace, first, split, stripped", "metaspace", {
        "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
        "pre_tokenizer": metaspace("first", True)}, True
    yield "metaspace, always", "metaspace", {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}}, False
    yield "metaspace, never", "metaspace", {"pre_tokenizer": metaspace("never", True)}, False
    yield "no bytes, unknown fused", "metaspace", {"model": {"byte_fallback": False}}, False
    yield "no bytes, unknown alone", "metaspace", {"model": {"byte_fallback": False, "fuse_unk": False}}, False
    yield "no bytes, unknown dropped", "metaspace", {"model": {"byte_fallback": False, "unk_token": None}}, False
    vocab = bases["metaspace"]["model"]["vocab"]
    yield "some bytes", "metaspace", {  # those of U+00E9, but not of others
        "model": {"vocab": {f"<0x{byte:02X}>": None for byte in range(256) if byte not in (0xC3, 0xA9)}
                  | {f"filler{byte}": vocab[f"<0x{byte:02X}>"] for byte in range(256) if byte not in (0xC3, 0xA9)}}
    }, False

    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield form, "byte_level", {"normalizer": {"type": form}, "pre_tokenizer": byte_level()}, False
    for left, right in ((True, True), (True, False), (False, True)):
        yield f"strip {left} {right}", "byte_level", {
            "normalizer": {"type": "Strip", "strip_left": left, "strip_right": right},
            "pre_tokenizer": byte_level()}, False
    yield "replace pattern", "byte_level", {
        "normalizer": {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\p{M}"}, "content": "$1"},
        "pre_tokenizer": byte_level()}, False
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"{behavior} {invert}", "byte_level", {
                "pre_tokenizer": sequence(regex_split(r"[aeiou ]|\d\d", behavior, invert), byte_level())}, False
    for pattern in (r"^.", r".$", r"\w+", r"\W", r"\b", r"\B.", r"\h+", r"\p{Han}|\p{^L}", r"x{2,3}+", r"x{3}?", r"x{,4}",
                    r"", r"(?=[A-Z])", r"(?<=\d)(?=\d)", r"(?i)THE|camel", r"(?>a|ab)b?", r"\v|\u3000|\x{a0}", r"[\s\d]+",
                    r"[^\S\n]+", r"\AH.|\n\z", r".\Z"):
        yield f"pattern {pattern}", "byte_level", {
            "pre_tokenizer": sequence(regex_split(pattern), byte_level())}, False


# ---- writing -------------------------------------------------------------------------------------------------


def merge_patch(target, patch):  # RFC 7396
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def pieces_of(model, text):
    """What Hugging Face's LlamaTokenizer does with a tokenizer.model: symbols first, then each stretch between them."""
    ids = []
    for part in re.split("(<unk>|<s>|</s>)", text):
        ids += [model.piece_to_id(part)] if part in ("<unk>", "<s>", "</s>") else model.encode(part)
    return ids


def stream_hash(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()


def write_json(path, value, rows=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    if rows:
        text = "[\n" + ",\n".join(json.dumps(row, **compact) for row in value) + "\n]"
    else:
        text = json.dumps(value, **compact)
    path.write_text(text + "\n", encoding="utf-8")


def main():
    write_json(OUT / "corpus.json", CORPUS, rows=True)
    bases = {"byte_level": byte_level_base(), "metaspace": metaspace_base()}
    for name, base in bases.items():
        write_json(OUT / "bases" / f"{name}.json", base)

    cases = []
    short = list(range(8, len(TEXTS), 3))
    for name, base, patch, whole in variants(bases):
        tokenizer = Tokenizer.from_str(json.dumps(merge_patch(bases[base], patch)))
        texts = list(range(len(CORPUS))) if whole else short
        cases.append({"name": name, "base": base, "patch": patch, "texts": texts,
                      "ids": [ids_of(tokenizer, CORPUS[i]) for i in texts]})
    write_json(OUT / "cases.json", cases, rows=True)

    tiny = Tokenizer.from_file(str(EXAMPLES / "tiny-llama" / "tokenizer.json"))
    streams = {}
    for path in sorted(EXAMPLES.glob("*.txt")):
        ids = ids_of(tiny, path.read_bytes().decode("utf-8"))
        streams[path.name] = {"num_ids": len(ids), "sha256": stream_hash(ids)}
    write_json(OUT / "tiny-llama.json", {"ids": [ids_of(tiny, text) for text in CORPUS], "streams": streams})

    results = {}
    for kind, options in (("bpe", {"byte_fallback": True, "split_digits": True, "remove_extra_whitespaces": False}),
                          ("unigram", {"user_defined_symbols": ["<mask>"]})):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(training_lines()), model_prefix=str(OUT / kind), model_type=kind, vocab_size=600,
            normalization_rule_name="identity", character_coverage=0.98, num_threads=1, minloglevel=2, **options)
        (OUT / f"{kind}.vocab").unlink()
        model = sentencepiece.SentencePieceProcessor(model_file=str(OUT / f"{kind}.model"))
        # Three equal characters of a Unigram model are "aa a" to some versions of the library, "a aa" to others.
        results[kind] = [None if kind == "unigram" and "***" in text else pieces_of(model, text) for text in CORPUS]
    write_json(OUT / "sentencepiece.json", results)

    (OUT / "ORIGIN").write_text(
        "Written by tests/golden/make_tokenizer_golden.py with "
        f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}.\n"
        "Tokenizers and models are trained by the script on its own texts and examples/shakespeare-calibration.txt.\n")


if __name__ == "__main__":
    main()
