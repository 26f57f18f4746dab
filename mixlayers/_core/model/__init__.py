"""One wrapped model: its passes, hooks, scopes, criteria and history. Imports everything below."""
