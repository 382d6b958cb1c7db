"""Parts of the Design room, apart from its forms and layout."""
