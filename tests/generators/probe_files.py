"""Writes tests/fixtures/probes/files/ with numpy 2.4.6, scipy 1.17.1, safetensors 0.8.0 and blake3 1.0.11.

    python -m venv v && v/bin/pip install numpy scipy safetensors blake3
    v/bin/python tests/generators/probe_files.py

Small files of activations and labels; expected.json holds the numbers that are in them. Every run writes the same
bytes.
"""
import io
import json
import pathlib
import pickle
import struct
import zipfile

import blake3
import numpy as np
import scipy.sparse
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent.parent / "fixtures" / "probes" / "files"
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)


def npy(array, version=None):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def archive(name, members, compression=zipfile.ZIP_STORED):
    """As numpy.savez does it, but always at the same time of day."""
    with zipfile.ZipFile(folder / name, "w", compression) as out:
        for key, content in members.items():
            member = key if isinstance(content, bytes) else key + ".npy"
            info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            with out.open(info, "w", force_zip64=True) as file:
                file.write(content if isinstance(content, bytes) else npy(np.asanyarray(content)))


def members(matrix):
    """What scipy.sparse.save_npz writes, read back from its own file."""
    out = io.BytesIO()
    scipy.sparse.save_npz(out, matrix)
    out.seek(0)
    return dict(np.load(out))


# Sparse: every value is exact as float16 and as bfloat16.
base = np.where(rng.random((7, 11)) < 0.32, rng.integers(1, 40, (7, 11)) / 8, 0)
base[5] = base[1]
base[:, 10] = 0
base[3] = 0
# Dense: signs, a constant column, values that only float64 holds.
wide = rng.normal(0, 3, (5, 4))
wide[:, 1] = 2.5
wide[4] = wide[0]
wide[2, 3] = 0.0
narrow = wide.astype("f4")

for kind in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8"):
    order = {"<": "little", ">": "big"}[kind[0]]
    (folder / f"base_{order}_{kind[1:]}.npy").write_bytes(npy(base.astype(kind)))
for kind in ("f2", "f4", "f8"):
    (folder / f"base_fortran_{kind}.npy").write_bytes(npy(np.asfortranarray(base.astype(kind))))
(folder / "base_version_2.npy").write_bytes(npy(base.astype("f4"), (2, 0)))
(folder / "base_version_3.npy").write_bytes(npy(base.astype("f4"), (3, 0)))
labels = np.array([0, 1, 1, 0, 0, 1, 0])
archive("base_stored.npz", {"activations": base.astype("f4"), "labels": labels})
archive("base_compressed.npz", {"activations": base.astype("f4"), "labels": labels}, zipfile.ZIP_DEFLATED)
archive("base_single.npz", {"layer_40": np.asfortranarray(base)}, zipfile.ZIP_DEFLATED)
archive("base_several.npz", {"layer_16": base.astype("f4") + 1, "layer_40": base.astype("f4")})
rows = scipy.sparse.csr_matrix(base.astype("f4"))
archive("base_csr.npz", members(rows), zipfile.ZIP_DEFLATED)
archive("base_csr_f8.npz", members(scipy.sparse.csr_array(base)), zipfile.ZIP_DEFLATED)
archive("base_csc.npz", members(rows.tocsc()), zipfile.ZIP_DEFLATED)
archive("base_coo.npz", members(rows.tocoo()), zipfile.ZIP_DEFLATED)
# The same matrix with unsorted columns, int64 indices, a value in two halves and a stored zero.
coo = rows.tocoo()
r, c, v = list(coo.row), list(coo.col), list(coo.data)
r, c, v = r + [r[0], 3], c + [c[0], 4], [v[0] / 2] + v[1:] + [v[0] / 2, 0.0]
order = np.lexsort((-np.array(c), r))
rough = {"data": np.array(v, "f4")[order], "indices": np.array(c, "i8")[order], "shape": np.array(base.shape),
         "indptr": np.concatenate([[0], np.cumsum(np.bincount(r, minlength=7))]).astype("i8"),
         "format": np.array("csr")}
archive("base_csr_rough.npz", rough)
archive("csr_outside.npz", {**members(rows), "indices": rows.indices + 3})
archive("csr_torn.npz", {**members(rows), "indptr": rows.indptr[:-1]})

save_file({"activations": base.astype("f4"), "labels": labels}, folder / "base_f4.safetensors")
save_file({"layer_40": base.astype("f2")}, folder / "base_f2.safetensors")
save_file({"activations": base}, folder / "base_f8.safetensors")
brain = (base.astype("f4").view("u4") >> 16).astype("u2")
# numpy has no bfloat16, so this header is written by hand.
header = {"activations": {"dtype": "BF16", "shape": list(base.shape), "data_offsets": [0, brain.nbytes]}}
header = json.dumps(header).encode()
(folder / "base_brain.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + brain.tobytes())

(folder / "wide.npy").write_bytes(npy(wide))
(folder / "narrow.npy").write_bytes(npy(narrow))
(folder / "narrow_fortran_f8.npy").write_bytes(npy(np.asfortranarray(narrow.astype("f8"))))
archive("narrow_csr.npz", members(scipy.sparse.csr_array(narrow)), zipfile.ZIP_DEFLATED)

# Latents of tokens: 5 texts of 6 tokens, 9 features, text 4 and feature 8 never active.
tokens = np.where(rng.random((5, 6, 9)) < 0.15, rng.integers(1, 50, (5, 6, 9)) / 4, 0)
tokens[4], tokens[:, :, 8] = 0, 0
listed = np.argwhere(tokens)
shuffled = rng.permutation(len(listed))
listed = listed[shuffled]
values = tokens[tuple(listed.T)]
for kind, value in (("u2", "f2"), ("u4", "f4"), ("i4", "f4"), ("i8", "f4")):
    tensors = {"locations": listed.astype(kind), "activations": values.astype(value)}
    if kind == "u2":
        tensors["tokens"] = np.zeros((5, 6), "i8")
    save_file(tensors, folder / f"latents_{kind}.safetensors")

whole = npy(base.astype("f4"))
(folder / "cut_off.npy").write_bytes(whole[:-10])
(folder / "cut_off.npz").write_bytes((folder / "base_stored.npz").read_bytes()[:-30])
(folder / "cut_off.safetensors").write_bytes((folder / "base_f4.safetensors").read_bytes()[:-10])
(folder / "objects.npy").write_bytes(npy(np.array([{"a": 1}, None], dtype=object)))
archive("objects.npz", {"activations": np.array(["a", 1], dtype=object)})
bad = base.astype("f4")
bad[6, 0], bad[4, 9], bad[4, 10] = np.inf, np.nan, -np.inf
(folder / "nan.npy").write_bytes(npy(bad))
bad[4, 9] = 0
(folder / "infinity.npy").write_bytes(npy(np.asfortranarray(bad)))
(folder / "three_dimensions.npy").write_bytes(npy(np.zeros((2, 3, 4), "f4")))
save_file({"activations": np.zeros((2, 3, 4), "f4")}, folder / "three_dimensions.safetensors")
(folder / "one_dimension.npy").write_bytes(npy(np.zeros(4, "f4")))
(folder / "empty.npy").write_bytes(npy(np.zeros((0, 4), "f4")))
(folder / "integers.npy").write_bytes(npy(np.zeros((2, 3), "i8")))
(folder / "pickle.pkl").write_bytes(pickle.dumps({"probe": 1}))
(folder / "pickle.bin").write_bytes(pickle.dumps({"probe": 1}, protocol=2))
archive("torch.pt", {"archive/data.pkl": pickle.dumps([1], protocol=2), "archive/data/0": struct.pack("<f", 1)})

words = ["aligned", "scheming", "potential_faking", "hard_negative", "compliant", "faking", "aligned"]
for name, array in {"int64": labels, "int32": labels.astype("i4"), "uint8": labels.astype("u1"),
                    "bool": labels.astype(bool), "big": labels.astype(">i8"), "text": np.array(words),
                    "bytes": np.array(words, "S"), "column": labels.reshape(-1, 1)}.items():
    (folder / f"labels_{name}.npy").write_bytes(npy(array))


def digest(matrix):
    """As src/probe/read/facts.rs documents it."""
    whole = blake3.blake3(b"drylab activations 1\n" + struct.pack("<QQ", *matrix.shape))
    for row in matrix.astype("f8"):
        places = np.flatnonzero(row)
        width = 4 if (row.astype("f4") == row).all() else 8
        content = bytes([width]) + places.astype("<u4").tobytes() + row[places].astype(f"<f{width}").tobytes()
        whole.update(blake3.blake3(content).digest())
    return whole.hexdigest()


def facts(matrix):
    active = (matrix != 0).sum(axis=1)
    brain = matrix.astype("f4")
    groups = [[i for i in range(len(matrix)) if (matrix[i] == row).all()] for row in matrix]
    return {
        "rows": matrix.shape[0], "columns": matrix.shape[1], "non_zeros": int(active.sum()),
        "density": float((matrix != 0).mean()),
        "active_per_row": {"mean": float(active.mean()), "min": int(active.min()), "max": int(active.max())},
        "mean": float(matrix.astype("f8").mean()),
        "columns_never_active": int((matrix == 0).all(axis=0).sum()),
        "columns_constant": int((matrix == matrix[0]).all(axis=0).sum()),
        "negative_values": int((matrix < 0).sum()),
        "bf16_exact": bool((brain == matrix).all() and not (brain.view("u4") & 0xFFFF).any()),
        "duplicate_rows": sorted({tuple(group) for group in groups if len(group) > 1}),
        "digest": digest(matrix),
        "values": matrix.astype("f8").tolist(), "sums": matrix.astype("f8").sum(axis=0).tolist(),
        "squares": (matrix.astype("f8") ** 2).sum(axis=0).tolist(),
    }


expected = {"base": facts(base), "wide": facts(wide), "narrow": facts(narrow), "max": facts(tokens.max(axis=1)),
            "mean": facts(tokens.mean(axis=1).astype("f4")), "labels": labels.tolist(), "words": words}
(folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
