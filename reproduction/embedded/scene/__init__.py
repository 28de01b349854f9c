"""How one picture is drawn: shapes, clothes, figures, places, and what the camera makes of them."""
