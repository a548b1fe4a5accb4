"""From a video to the motion of its people, and out of the program again."""
