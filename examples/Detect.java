// Detects objects in an image and saves the drawing, with Java 11 or newer and nothing else:
// java examples/Detect.java http://127.0.0.1:8000 photo.jpg drawn.png
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

class Detect {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static byte[] ask(String url, Path image, String accept) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url + "/v1/detect?score_threshold=0.5&masks=none"))
            .header("Content-Type", "image/jpeg")
            .header("Accept", accept)
            .POST(HttpRequest.BodyPublishers.ofFile(image))
            .build();
        var response = CLIENT.send(request, BodyHandlers.ofByteArray());
        if (response.statusCode() != 200) {
            System.err.println(new String(response.body(), StandardCharsets.UTF_8));
            System.exit(1);
        }
        return response.body();
    }

    public static void main(String[] arguments) throws Exception {
        var image = Path.of(arguments[1]);
        System.out.write(ask(arguments[0], image, "application/json"));
        System.out.println();
        Files.write(Path.of(arguments[2]), ask(arguments[0], image, "image/png"));
    }
}
