"""The atlas: a folder of pages about a network, its layers, units and classes, that opens from a disk.

sprites    the maps of all units, one picture for each layer and class
facts      what other runs found about single units and classes
graph      the network drawn
pages      what each page shows
building   the folder, whole or not there
"""
