"""What a prompt says and how a completion is read: signatures, adapter, tags, parsing."""
