"""Test-time augmentation: views of a volume that its anisotropy allows, and what their answers say together."""
