"""How fast this machine multiplies, measured once and kept, and what follows from it for a model.

`aerogel calibrate` measures (`calibrate`, `grid`, `rest`) and keeps the result (`cache`); exporting and inspecting ask
it (`model`, `predict`). Nothing here measures unless told to.
"""
