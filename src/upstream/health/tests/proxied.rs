//! Checks through a proxy: of the address that was picked, as calls go there.

use super::*;

/// A proxy that speaks CONNECT and notes what it was asked for.
async fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                log.lock().push(target.clone());
                let Ok(mut there) = tokio::net::TcpStream::connect(&target).await else {
                    let _ = stream.write_all(b"HTTP/1.1 502 X\r\n\r\n").await;
                    return;
                };
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").await;
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    (address, asked, task)
}

#[tokio::test]
async fn a_check_through_a_proxy_asks_for_the_pinned_address_that_was_picked() {
    let (one, two) = (Loopback::plain(by_key).await, Loopback::plain(by_key).await);
    let pins = [one.address.to_string(), two.address.to_string()];
    let (proxy, asked, task) = proxy().await;
    let more = format!("\nproxy = \"http://{proxy}\"\nconnect_to = {pins:?}\n");
    let toml = provider("far", "openai_chat = \"http://far.example/v1\"", &["good", "other"]).replacen('\n', &more, 1);
    let house = House::plain(&toml);
    for _ in 0..4 {
        assert_eq!(house.checks.verify("far", "good").await.unwrap().finding, Finding::Ok);
    }
    for pin in &pins {
        assert!(asked.lock().contains(pin), "{pin} in {:?}", asked.lock());
    }

    asked.lock().clear();
    house.places().await;
    let [far] = &house.checks.of_places("far")[..] else {
        panic!("one place")
    };
    let told: Vec<(String, Finding)> = far
        .addresses
        .iter()
        .map(|(address, result)| (address.to_string(), result.finding))
        .collect();
    assert_eq!(told, pins.clone().map(|pin| (pin, Finding::Ok)), "each pinned address");
    assert_eq!(*asked.lock(), pins);
    task.abort();
}
