"""Tests of palyra.core: tables for every machine, properties for every parser."""
