"""Raw text to pre-train on: files, documents, sentences, and the rows that are made of them. Needs no torch."""
