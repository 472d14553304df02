"""The models an attention plugs into; torch only."""
