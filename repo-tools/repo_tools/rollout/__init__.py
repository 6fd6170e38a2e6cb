"""What a rollout does to a fleet and to the server, before it starts."""
