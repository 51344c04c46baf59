"""Reading a generation while it runs, and correcting it: monitor, carriers, steering, replay."""
