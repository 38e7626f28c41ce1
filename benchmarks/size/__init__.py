"""The dashboard on a made kitchen as large as a lab's: what its pages take, and many people and jobs at once."""
