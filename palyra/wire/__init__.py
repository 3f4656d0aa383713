"""The wire: generated protobuf and its translation to and from core values."""
