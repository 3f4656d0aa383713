"""What every provider of an interface must keep, one mixin an interface."""
