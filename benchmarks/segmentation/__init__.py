"""DAAIN on semantic segmentation: scenes, a network, its attacks, and who notices them."""
