"""What a checkpoint's mask looks like: numbers, statistics against chance, pictures. Needs no training code."""
