"""Files that go into a bundle as they are: README.txt, example.py, example.c."""
