"""The methods: each a frozen description whose `draw` returns one plan a step. Imports plan and framework."""
