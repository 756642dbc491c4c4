"""Test-time augmentation: views of a volume that its anisotropy allows, and their predictions merged."""
