"""``files.fetch``: files of a device, from the directories that its owner allows."""
