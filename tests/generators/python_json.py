"""Writes tests/fixtures/python_json.jsonl: rows and how json.dumps writes them, for src/data/python_json.rs."""
import json
import sys

texts = ["plain / text", "", "quote \" back \\ slash", "\n\r\t\b\f", "".join(map(chr, range(0x20))), "\x7e\x7f\x80\xa0\xff",
         "é ü ß — ’ …", "日本語", "\ud7ff\ue000\ufffd\uffff", "\U00010000\U0001f600\U0010ffff", "\u2028\u2029\ufeff", "</script>"]
weights = [None, 0.0, 0.5, 2.0, 1e-4, 1e-5, 1.5e-7, 1e15, 1e16, 1.25e100, 1 / 3, 123456789.125]
with open(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/python_json.jsonl", "w", encoding="utf-8", newline="\n") as file:
    for text, weight in zip(texts, weights, strict=True):
        row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text + "."}]}
        if weight is not None:
            row["weight"] = weight
        file.write(json.dumps(row, ensure_ascii=False) + "\n" + json.dumps(row) + "\n")
