"""Raw text for pre-training: files, documents, sentences and training rows. Needs no torch."""
