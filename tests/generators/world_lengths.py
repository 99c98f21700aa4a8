"""Words per document of the Python prototype of the organism's world, restricted to the domains that were ported.

Usage: world_lengths.py FOLDER-OF-WORLD.PY   (the judge of src/data/world/tests.rs)
Output of 40,000 documents, seed 5: words a document 38.24, an answer 9.006, a question 8.856, prompts a document 4.329, turns 1.899
"""
import random
import sys

sys.path.insert(0, sys.argv[1])
import world

world.DOMAINS[:] = ["code", "finance", "cooking", "travel", "school", "pets", "work", "facts", "general"]
world.DW[:] = [1] * 8 + [3]
documents, rng = 40000, random.Random(5)
words, turns = dict(system=0, user=0, assistant=0), 0
for _ in range(documents):
    for role, text in world.sample_doc(rng):
        words[role] += len(text.split())
        turns += role == "user"
print("words a document", sum(words.values()) / documents, "an answer", words["assistant"] / turns,
      "a question", words["user"] / turns, "prompts a document", words["system"] / documents, "turns", turns / documents)
