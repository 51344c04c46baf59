"""Values as users mean them: words of any language, texts compared by meaning, values by their type."""
