"""What copies of a file have in common: a digest of its text, and a MinHash signature of its word 5-grams.

Two files with the same digest differ in blanks alone. The share of equal numbers in two signatures estimates
the Jaccard similarity of the files: of all runs of five words that occur in either, the share that occurs in
both. The standard error is at most 0.031.
Source: Broder 1997, "On the resemblance and containment of documents".
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

BLANKS = b" \t\n\f"

PERMUTATIONS = 256  # BigCode and FineWeb use 256 and 112: at 256 the error does not blur 0.7 much
SHINGLE_WORDS = 5  # SantaCoder and The Stack: word 5-grams
FEWEST_WORDS = 10  # BigCode's MIN_NUM_TOKENS: smaller files are alike by chance
SIGNATURE_BYTES = 4 * PERMUTATIONS
SEED = 1

# Everything but letters, digits and the underscore separates words; bytes above 127 are mostly of letters.
TO_WORDS = bytes(
    byte if byte >= 128 or chr(byte).isalnum() or byte == ord("_") else 32 for byte in range(256)
)
# An odd number whose bits look random (2**64 over the golden ratio), as in Knuth's multiplicative hashing.
MIXER = np.uint64(0x9E3779B97F4A7C15)


def content_digest(text: str) -> str:
    """The same for two texts that differ in blanks alone: 32 hexadecimal digits.

    16 bytes: among a billion different files, two get the same digest with a probability of 1e-21.
    """
    return blake2b(text.encode().translate(None, BLANKS), digest_size=16).hexdigest()


def signature(text: str) -> bytes:
    """The MinHash signature: 256 little-endian numbers of 32 bits; b"" for a file of too few words."""
    hashes = shingles(text)
    if not len(hashes):
        return b""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, [0, len(hashes)], PERMUTATIONS, SEED)
    return np.array(matrix.to_rows()[0], dtype="<u4").tobytes()


def shingles(text: str) -> NDArray[np.uint64]:
    """The runs of five words in a text, each as a hash of 64 bits; none for fewer than FEWEST_WORDS words.

    (n,) numbers in the order of the text, with repetitions, which a signature ignores. They are the same on
    every machine and in every run.
    """
    words = text.encode().translate(TO_WORDS).split()
    if len(words) < FEWEST_WORDS:
        return np.empty(0, np.uint64)
    hashes = np.array(RMinHash.hash_token_sets([words])[0], dtype=np.uint64)
    number = len(words) - SHINGLE_WORDS + 1
    runs = hashes[:number].copy()
    for offset in range(1, SHINGLE_WORDS):
        runs *= MIXER  # modulo 2**64
        runs ^= runs >> np.uint64(29)
        runs ^= hashes[offset : offset + number]
    return runs


def jaccard(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> float:
    """The exact similarity of two files by their shingles, from 0 to 1: what signatures estimate."""
    both = len(np.intersect1d(first, second))
    return both / max(1, len(np.union1d(first, second)))
