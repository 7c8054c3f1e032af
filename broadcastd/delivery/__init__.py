"""The use cases: intake, planner, dispatcher, tasks, sender, recorder. Nothing here knows an adapter."""
