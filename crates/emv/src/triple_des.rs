//! 3DES for kernels 2 and 3 and for published vectors: option A card keys, common session keys, Visa limited-use keys, MACs (Book 2 annex A1).
