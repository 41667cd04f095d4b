"""From evidence to a suggestion or a refusal, and the comparison of several."""
